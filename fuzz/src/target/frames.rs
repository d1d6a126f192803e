//! Messages of both sides: what is cut, what is read of their bodies, and that cuts change nothing.

use pgherd_protocol::error::{ClientError, ErrorFields, Severity};
use pgherd_protocol::flow::{Flow, Next};
use pgherd_protocol::frame::{
    Frame, FrameError, HEADER_LEN, Header, backend_header, frontend_header, split_cstr,
};
use pgherd_protocol::rows::{Formats, one_column, two_columns};
use pgherd_protocol::server::ServerState;

type ReadHeader = fn(&[u8]) -> Result<Option<Header>, FrameError>;

/// A client's bytes.
pub(crate) fn frontend(input: &[u8]) {
    let frames = cut(input, frontend_header, 0x3FFF_FFFF);
    for frame in &frames {
        assert!(frame.header.tag.is_ascii_alphabetic(), "{:?}", frame.header);
        read_strings(frame.body);
        if frame.header.tag == b'B' {
            read_formats(frame.body);
        }
    }
    is_found_whatever_the_cuts(input);
}

/// A server's bytes.
pub(crate) fn backend(input: &[u8]) {
    let frames = cut(input, backend_header, 0x8000_0000);
    let mut server = ServerState::new(10, None);
    for frame in &frames {
        let body = frame.body;
        match frame.header.tag {
            b'S' => server.on_parameter_status(body),
            b'E' | b'N' => read_error(body),
            b'D' => read_row(body),
            _ => read_strings(body),
        }
    }
    // A server that reports without end fills no memory.
    assert!(server.parameters.len() <= 256);
}

/// The messages, whose ends do not depend on how the bytes arrive, and which are refused as soon as that can be known.
fn cut(input: &[u8], header_of: ReadHeader, longest: usize) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    let mut rest = input;
    while let Ok(Some(header)) = header_of(rest) {
        assert!((HEADER_LEN..=longest).contains(&header.len), "{header:?}");
        for len in 0..HEADER_LEN {
            assert_eq!(header_of(&rest[..len]), Ok(None), "it takes no less than a header");
        }
        assert_eq!(header_of(&rest[..HEADER_LEN]), Ok(Some(header)), "and no more");
        let frame = Frame::new(header, rest);
        assert_eq!(frame.is_complete(), rest.len() >= header.len);
        assert_eq!(frame.body, &rest[HEADER_LEN..header.len.min(rest.len())]);
        frames.push(frame);
        let Some(behind) = rest.get(header.len..) else { break };
        rest = behind;
    }
    frames
}

fn read_strings(mut body: &[u8]) {
    while let Some((text, rest)) = split_cstr(body) {
        assert!(!text.contains(&0) && text.len() + 1 + rest.len() == body.len());
        body = rest;
    }
    assert!(!body.contains(&0));
}

fn read_formats(body: &[u8]) {
    for columns in [0, 1, 3] {
        if Formats::parse(body, columns).is_some() {
            let count = usize::from(u16::from_be_bytes([body[0], body[1]]));
            assert!(count <= 1 || count == columns, "{count} formats of {columns} columns");
        }
    }
}

/// What is read of an error can be told again.
fn read_error(body: &[u8]) {
    let fields = ErrorFields::parse(body);
    for field in
        [fields.severity, fields.sqlstate, fields.message, fields.detail, fields.hint, fields.routine]
    {
        assert!(!field.contains(&0));
    }
    let mut told = Vec::new();
    ClientError::from_server(body).write(&mut told, Severity::Fatal);
    let header = backend_header(&told).expect("a message").expect("a whole header");
    assert_eq!((header.tag, header.len), (b'E', told.len()));
    let again = ErrorFields::parse(&told[HEADER_LEN..]);
    assert!(again.ends_session());
    assert!(again.sqlstate.len() == 5, "{:?}", String::from_utf8_lossy(again.sqlstate));
}

fn read_row(body: &[u8]) {
    if let Some(one) = one_column(body) {
        assert_eq!(one.len() + 6, body.len());
        assert!(two_columns(body).is_none());
    }
    if let Some([one, other]) = two_columns(body) {
        assert_eq!(one.len() + other.len() + 10, body.len());
    }
}

/// An idle client's first request is the same one, however its bytes arrive.
fn is_found_whatever_the_cuts(input: &[u8]) {
    let whole = Flow::default().next_request((input, false));
    let mut flow = Flow::default();
    let (mut begun, mut dropped) = (0, 0);
    let mut last = None;
    for end in 0..=input.len() {
        let found = flow.next_request((&input[begun..end], false));
        last = Some(found);
        match found {
            Ok(idle) => {
                begun += idle.consumed;
                dropped += idle.consumed;
                if idle.next != Next::NeedMore {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    match (whole, last.expect("one look at least")) {
        (Ok(whole), Ok(bit)) => assert_eq!((whole.consumed, whole.next), (dropped, bit.next)),
        (whole, bit) => assert_eq!(whole.map(|it| it.next), bit.map(|it| it.next)),
    }
}
