//! Differences that are known, and documented in docs/differential.md, by what both sides say where they part.

/// Why PostgreSQL's next messages and pgherd's are not the same, if that is known. `pipelined`: the client has sent a batch before it had the answer
/// to another.
pub(super) fn explanation(direct: &[String], behind: &[String], pipelined: bool) -> Option<&'static str> {
    let first = direct.first().map_or("", String::as_str);
    let other = behind.first().map_or("", String::as_str);
    if first.contains("Munexpected message type") && first.contains("during COPY from stdin") {
        return Some("a message of the extended protocol within a COPY FROM STDIN");
    }
    if pipelined && [first, other].iter().any(|it| it.starts_with("E ") && it.contains("prepared statement"))
    {
        return Some("statements in a pipeline, behind a batch of which a part has failed");
    }
    if first.contains("\\x00C26000\\x00Mprepared statement ") && other == "C DEALLOCATE\\x00" {
        return Some("DEALLOCATE of a name that the same batch has dropped");
    }
    if first.contains("Mbind message supplies") && other.contains("\\x00C25P02\\x00") {
        return Some("a wrong Bind in a transaction that has failed already");
    }
    let is_error = |message: &String| message.starts_with("E ");
    if behind.is_empty() && direct.iter().all(is_error) {
        return Some("an error that the client did not ask to be told before it broke the protocol");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_explained_but_what_is_known() {
        let all = |messages: &[&str]| messages.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        let taken = all(&["E SERROR\\x00VERROR\\x00C42P05\\x00Mprepared statement"]);
        assert!(explanation(&taken, &all(&["1 "]), true).is_some());
        for (direct, behind) in [
            (taken, all(&["1 "])),
            (all(&["Z I"]), all(&[])),
            (all(&["E SERROR", "Z I"]), all(&[])),
            (all(&["D 1"]), all(&["D 2"])),
            (all(&[]), all(&["E SERROR"])),
        ] {
            assert_eq!(explanation(&direct, &behind, false), None, "{direct:?} {behind:?}");
        }
        assert_eq!(explanation(&all(&["D prepared statement"]), &all(&["Z I"]), true), None);
    }
}
