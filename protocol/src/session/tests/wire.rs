//! Messages as a client writes them, and as a test reads them.

use crate::error::ErrorFields;
use crate::frame::{Frame, backend_header, frontend_header, split_cstr};
use crate::write;

pub(super) fn query(text: &str) -> Vec<u8> {
    built(b'Q', |out| write::cstr(out, text.as_bytes()))
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    built(b'P', |out| {
        write::cstr(out, name.as_bytes());
        write::cstr(out, text.as_bytes());
        out.extend_from_slice(&[0, 0]);
    })
}

pub(super) fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    built(b'B', |out| {
        write::cstr(out, portal.as_bytes());
        write::cstr(out, statement.as_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(&[0, 0]);
    })
}

pub(super) fn describe_statement(name: &str) -> Vec<u8> {
    named(b'D', b'S', name)
}

pub(super) fn describe_portal(name: &str) -> Vec<u8> {
    named(b'D', b'P', name)
}

pub(super) fn close_statement(name: &str) -> Vec<u8> {
    named(b'C', b'S', name)
}

pub(super) fn close_portal(name: &str) -> Vec<u8> {
    named(b'C', b'P', name)
}

pub(super) fn execute_some(portal: &str, rows: u32) -> Vec<u8> {
    built(b'E', |out| {
        write::cstr(out, portal.as_bytes());
        out.extend_from_slice(&rows.to_be_bytes());
    })
}

pub(super) fn sync() -> Vec<u8> {
    built(b'S', |_| ())
}

pub(super) fn flush() -> Vec<u8> {
    built(b'H', |_| ())
}

pub(super) fn copy_data(text: &str) -> Vec<u8> {
    built(b'd', |out| out.extend_from_slice(text.as_bytes()))
}

pub(super) fn copy_done() -> Vec<u8> {
    built(b'c', |_| ())
}

pub(super) fn copy_fail(why: &str) -> Vec<u8> {
    built(b'f', |out| write::cstr(out, why.as_bytes()))
}

/// The model's only function writes the number that is taken for its oid.
pub(super) fn function_call(number: u32) -> Vec<u8> {
    built(b'F', |out| {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&[0; 6]);
    })
}

fn named(tag: u8, what: u8, name: &str) -> Vec<u8> {
    built(tag, |out| {
        out.push(what);
        write::cstr(out, name.as_bytes());
    })
}

fn built(tag: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write::message(&mut out, tag, fill);
    out
}

/// What a server said, one message a line.
#[track_caller]
pub(super) fn replies(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(header) = backend_header(bytes).unwrap() {
        let frame = Frame::new(header, bytes);
        assert!(frame.is_complete(), "cut off: {}", bytes.escape_ascii());
        lines.push(reply(header.tag, frame.body));
        bytes = &bytes[header.len..];
    }
    assert_eq!(bytes, b"", "cut off");
    lines
}

fn reply(tag: u8, body: &[u8]) -> String {
    let fields = || {
        let fields = ErrorFields::parse(body);
        format!("{} {}", text(fields.sqlstate), text(fields.message))
    };
    match tag {
        b'1' => "ParseComplete".into(),
        b'2' => "BindComplete".into(),
        b'3' => "CloseComplete".into(),
        b'n' => "NoData".into(),
        b'I' => "EmptyQueryResponse".into(),
        b's' => "PortalSuspended".into(),
        b't' => format!("ParameterDescription {}", u16::from_be_bytes([body[0], body[1]])),
        b'T' => "RowDescription".into(),
        b'D' => format!("DataRow {}", shortened(&text(&body[6..]))),
        b'C' => format!("CommandComplete {}", cstr(body)),
        b'Z' => format!("ReadyForQuery {}", char::from(body[0])),
        b'E' => format!("ErrorResponse {}", fields()),
        b'N' => format!("NoticeResponse {}", fields()),
        b'A' => "NotificationResponse".into(),
        b'S' => format!("ParameterStatus {}", cstr(body)),
        b'G' => "CopyInResponse".into(),
        b'H' => "CopyOutResponse".into(),
        b'd' => format!("CopyData {}", shortened(&text(body))),
        b'c' => "CopyDone".into(),
        b'V' => "FunctionCallResponse".into(),
        other => format!("{}?", char::from(other)),
    }
}

/// What a server was sent, one message a line.
#[track_caller]
pub(super) fn requests(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(header) = frontend_header(bytes).unwrap() {
        let frame = Frame::new(header, bytes);
        assert!(frame.is_complete(), "cut off: {}", bytes.escape_ascii());
        lines.push(request(header.tag, frame.body));
        bytes = &bytes[header.len..];
    }
    assert_eq!(bytes, b"", "cut off");
    lines
}

fn request(tag: u8, body: &[u8]) -> String {
    let what = |body: &[u8]| match body[0] {
        b'S' => format!("statement {}", quoted(&body[1..])),
        _ => format!("portal {}", quoted(&body[1..])),
    };
    match tag {
        b'Q' => format!("Query {}", shortened(&cstr(body))),
        b'P' => {
            let (name, rest) = split_cstr(body).unwrap();
            format!("Parse \"{}\" {}", text(name), shortened(&cstr(rest)))
        }
        b'B' => {
            let (portal, rest) = split_cstr(body).unwrap();
            format!("Bind \"{}\" to {}", text(portal), quoted(rest))
        }
        b'D' => format!("Describe {}", what(body)),
        b'C' => format!("Close {}", what(body)),
        b'E' => format!("Execute {}", quoted(body)),
        b'S' => "Sync".into(),
        b'H' => "Flush".into(),
        b'd' => format!("CopyData {}", shortened(&text(body))),
        b'c' => "CopyDone".into(),
        b'f' => format!("CopyFail {}", cstr(body)),
        b'F' => "FunctionCall".into(),
        other => format!("{}?", char::from(other)),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cstr(bytes: &[u8]) -> String {
    text(split_cstr(bytes).map_or(bytes, |(text, _)| text))
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", cstr(bytes))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}.. {} bytes", &text[..end], text.len()),
        None => text.to_owned(),
    }
}
