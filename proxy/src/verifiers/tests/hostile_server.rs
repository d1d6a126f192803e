//! A server that answers something else than was asked for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

fn message(tag: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 4).unwrap().to_be_bytes();
    [&[tag], length.as_slice(), payload].concat()
}

fn column(name: &str, oid: u32) -> Vec<u8> {
    // Table, column number, type, length, modifier, binary format.
    [name.as_bytes(), &[0; 7], &oid.to_be_bytes(), &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1]].concat()
}

fn field(value: Option<&[u8]>) -> Vec<u8> {
    let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap());
    [length.to_be_bytes().as_slice(), value.unwrap_or_default()].concat()
}

/// The answer to the query: one row, of the role `owner`.
fn row_of(owner: &str) -> Vec<u8> {
    let columns: Vec<u8> = [
        ("rolname", 19),
        ("oid", 26),
        ("rolpassword", 25),
        ("rolcanlogin", 16),
        ("rolsuper", 16),
        ("rolconnlimit", 23),
        ("rolvaliduntil", 1184),
        ("settings", 20),
        ("asks", 25),
    ]
    .iter()
    .flat_map(|(name, oid)| column(name, *oid))
    .collect();
    let rolpassword = scram_rolpassword("owner's password");
    let fields = [
        field(Some(owner.as_bytes())),
        field(Some(&[0, 0, 0, 10])),
        field(Some(rolpassword.as_bytes())),
        field(Some(&[1])),
        field(Some(&[0])),
        field(Some(&[0xff; 4])),
        field(None),
        field(None),
        field(None),
    ];
    [
        message(b'1', b""),
        message(b'2', b""),
        message(b'T', &[&[0, 9], columns.as_slice()].concat()),
        message(b'D', &[&[0, 9], fields.concat().as_slice()].concat()),
        message(b'C', b"SELECT 1\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// The answer to other queries: no row.
fn nothing() -> Vec<u8> {
    [
        message(b'1', b""),
        message(b'2', b""),
        message(b'T', &[0, 0]),
        message(b'C', b"SELECT 0\0"),
        message(b'Z', b"I"),
    ]
    .concat()
}

/// Lets one client in without a password and gives the same row to every query for passwords, until it goes away.
fn serve(listener: &TcpListener, owner: &str) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    read(&mut stream, u32::from_be_bytes(length));
    stream.write_all(&[message(b'R', &[0; 4]), message(b'Z', b"I")].concat()).unwrap();
    let (mut head, mut for_passwords) = ([0; 5], false);
    while stream.read_exact(&mut head).is_ok() {
        let body = read(&mut stream, u32::from_be_bytes([head[1], head[2], head[3], head[4]]));
        match head[0] {
            b'P' => for_passwords = String::from_utf8_lossy(&body).contains("rolpassword"),
            b'S' if for_passwords => stream.write_all(&row_of(owner)).unwrap(),
            b'S' => stream.write_all(&nothing()).unwrap(),
            _ => {}
        }
    }
}

fn read(stream: &mut TcpStream, length: u32) -> Vec<u8> {
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).unwrap();
    body
}

#[tokio::test]
async fn a_row_of_another_user_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
    let server = std::thread::spawn(move || serve(&listener, "postgres"));
    let service = Service::start(&[&endpoint], patient());
    assert_eq!(service.lookup("anna").await.err(), Some(LookupError::NoSuchRole));
    let owner = service.lookup("postgres").await.unwrap();
    assert!(opens(&owner, "postgres", "owner's password"));
    service.stop().await;
    server.join().unwrap();
}
