//! Finds host and port in a libpq connection string.

/// `host` (else `hostaddr`) and `port` of a keyword/value connection string; port 5432 where it names none. None if it
/// names no host, or is no such string.
pub(super) fn host_and_port(conninfo: &str) -> Option<(String, u16)> {
    let (mut host, mut hostaddr, mut port) = (None, None, Some(5432));
    let mut rest = conninfo.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        match key.trim_end() {
            "host" => host = Some(value),
            "hostaddr" => hostaddr = Some(value),
            "port" if !value.is_empty() => port = value.parse().ok(),
            _ => {}
        }
        rest = after.trim_start();
    }
    Some((host.filter(|host| !host.is_empty()).or(hostaddr)?, port?))
}

/// One value, quoted or not, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut found = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => found.push(characters.next()?.1),
            '\'' if quoted => return Some((found, text.get(at + 1..)?)),
            _ if !quoted && character.is_whitespace() => return Some((found, text.get(at..)?)),
            _ => found.push(character),
        }
    }
    (!quoted).then_some((found, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_server_that_repmgr_registered() {
        for (conninfo, host, port) in [
            ("host=pg01 user=repmgr dbname=repmgr", "pg01", 5432),
            ("user = repmgr  port= 5433 host ='pg 02' password='it\\'s'", "pg 02", 5433),
            ("hostaddr=10.0.0.1 host='' port=''", "10.0.0.1", 5432),
            ("password='host=evil' host=pg\\01", "pg01", 5432),
        ] {
            assert_eq!(host_and_port(conninfo), Some((host.to_owned(), port)), "{conninfo}");
        }
    }

    #[test]
    fn names_no_server_where_the_string_does_not() {
        for conninfo in
            ["", "user=repmgr", "host='pg01", "host=pg01 port=x", "postgresql://pg01/repmgr", "host=a\\"]
        {
            assert_eq!(host_and_port(conninfo), None, "{conninfo}");
        }
    }
}
