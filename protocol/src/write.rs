//! Messages as bytes: what pgherd itself says to clients and to servers.

use crate::startup::CancelKey;

/// Appends a message whose body `fill` writes.
pub fn message(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    counted(out, fill);
}

/// Appends a length word and what `fill` writes; the word counts itself.
fn counted(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(word) = out.get_mut(start..start + 4) {
        word.copy_from_slice(&len.to_be_bytes());
    }
}

/// Appends a length word that does not count itself and what `fill` writes, as in DataRow; or -1 if that says that there is no
/// value.
pub fn value(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>) -> bool) {
    let start = out.len();
    out.extend_from_slice(&[0xff; 4]);
    if fill(out) {
        let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(word) = out.get_mut(start..start + 4) {
            word.copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends a zero-terminated string; whatever follows a zero byte in it is left out.
pub fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(text.iter().copied().take_while(|&b| b != 0));
    out.push(0);
}

/// StartupMessage of protocol 3.0.
pub fn startup<'a>(out: &mut Vec<u8>, parameters: impl IntoIterator<Item = (&'a str, &'a str)>) {
    counted(out, |out| {
        out.extend_from_slice(&[0, 3, 0, 0]);
        for (name, value) in parameters {
            cstr(out, name.as_bytes());
            cstr(out, value.as_bytes());
        }
        out.push(0);
    });
}

/// CancelRequest.
#[must_use]
pub fn cancel_request(key: &CancelKey) -> Vec<u8> {
    let mut packet = Vec::new();
    counted(&mut packet, |out| {
        out.extend_from_slice(&[0x04, 0xd2, 0x16, 0x2e]);
        key.write(out);
    });
    packet
}

/// Query.
pub fn query(out: &mut Vec<u8>, text: &str) {
    message(out, b'Q', |out| cstr(out, text.as_bytes()));
}

/// Any authentication request: 0 is AuthenticationOk, 5 MD5, 10 SASL, 11 SASLContinue, 12 SASLFinal.
pub fn authentication(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    message(out, b'R', |out| {
        out.extend_from_slice(&code.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// PasswordMessage, SASLInitialResponse and SASLResponse share one tag.
pub fn password(out: &mut Vec<u8>, data: &[u8]) {
    message(out, b'p', |out| out.extend_from_slice(data));
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &str, value: &str) {
    message(out, b'S', |out| {
        cstr(out, name.as_bytes());
        cstr(out, value.as_bytes());
    });
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut Vec<u8>, key: &CancelKey) {
    message(out, b'K', |out| key.write(out));
}

/// NegotiateProtocolVersion: the version that is spoken from now on, and the extensions that are not. Unlike what the
/// documentation of PostgreSQL 15 says, servers send the major version too.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, unknown: &[String]) {
    message(out, b'v', |out| {
        out.extend_from_slice(&(3 << 16 | u32::from(minor)).to_be_bytes());
        out.extend_from_slice(&u32::try_from(unknown.len()).unwrap_or(0).to_be_bytes());
        unknown.iter().for_each(|name| cstr(out, name.as_bytes()));
    });
}

/// ReadyForQuery; `status` is `I`, `T` or `E`.
pub fn ready_for_query(out: &mut Vec<u8>, status: u8) {
    message(out, b'Z', |out| out.push(status));
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| cstr(out, tag.as_bytes()));
}

/// A message without a body, such as ParseComplete (`1`), BindComplete (`2`), CloseComplete (`3`), NoData (`n`).
pub fn empty(out: &mut Vec<u8>, tag: u8) {
    message(out, tag, |_| ());
}
