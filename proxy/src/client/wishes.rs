//! What a session asks for its own reads, by custom parameters that mean something to pgherd alone.

use pgherd_protocol::error::{ClientError, Severity};
use pgherd_protocol::parameters::Parameters;

use super::acquire::Access;
use super::relay::Front;
use crate::config::{Choice, Consistency, ReadPolicy, Reads};

const CONSISTENCY: &str = "pgherd.consistency";
const READS: &str = "pgherd.reads";

/// `policy`, but for what these parameters ask for. A word that means nothing is taken for the strictest.
pub(super) fn apply(policy: ReadPolicy, parameters: &Parameters) -> ReadPolicy {
    let reads = word(parameters, READS).map(|word| Reads::named(word).unwrap_or(Reads::Primary));
    let consistency =
        word(parameters, CONSISTENCY).map(|word| Consistency::named(word).unwrap_or(Consistency::Strong));
    ReadPolicy {
        reads: reads.unwrap_or(policy.reads),
        consistency: consistency.unwrap_or(policy.consistency),
        ..policy
    }
}

/// None where nothing is asked for: PostgreSQL leaves a custom parameter empty that was taken back.
fn word<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.get(name).filter(|word| !word.is_empty())
}

/// Refuses a startup packet whose words mean nothing, as PostgreSQL does where it knows the parameter.
///
/// # Errors
/// 22023.
pub(super) fn check(parameters: &Parameters) -> Result<(), ClientError> {
    complaints(parameters, &Parameters::default()).next().map_or(Ok(()), Err)
}

/// Tells the client of words that mean nothing, now that others are in force than before. The server has taken them: it knows no better.
pub(super) fn complain(front: &mut Front, (access, before): (&Access, &Parameters)) {
    for complaint in complaints(&access.parameters, before) {
        let Access { database, user, .. } = access;
        tracing::info!(%database, %user, reason = %complaint.message, "a session reads from the primary");
        let complaint =
            complaint.detail("Until it has another value, pgherd has the session read from the primary.");
        complaint.write(front.down.append(), Severity::Notice);
    }
}

/// What is wrong with words that were not in force before.
fn complaints<'a>(
    parameters: &'a Parameters,
    before: &'a Parameters,
) -> impl Iterator<Item = ClientError> + 'a {
    let complaint = |name: &str, is_known: fn(&str) -> bool, available: &'static str| {
        let word = word(parameters, name).filter(|word| !is_known(word) && before.get(name) != Some(word))?;
        let message = format!("invalid value for parameter \"{name}\": \"{word}\"");
        Some(ClientError::new("22023", message).hint(available))
    };
    let consistency = complaint(
        CONSISTENCY,
        |word| Consistency::named(word).is_some(),
        "Available values: session, eventual, strong.",
    );
    let reads =
        complaint(READS, |word| Reads::named(word).is_some(), "Available values: primary, standbys, any.");
    [consistency, reads].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ReadPolicy =
        ReadPolicy { reads: Reads::Standbys, consistency: Consistency::Session, max_lag: None, prefer: None };

    fn parameters(list: &[(&str, &str)]) -> Parameters {
        let owned: Vec<_> = list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Parameters::new(&owned).unwrap()
    }

    #[test]
    fn a_session_has_what_it_asks_for_and_the_strictest_for_what_means_nothing() {
        for (asked, reads, consistency) in [
            (&[][..], Reads::Standbys, Consistency::Session),
            (&[(CONSISTENCY, ""), (READS, "")], Reads::Standbys, Consistency::Session),
            (&[(CONSISTENCY, "Eventual")], Reads::Standbys, Consistency::Eventual),
            (&[(CONSISTENCY, "eventually")], Reads::Standbys, Consistency::Strong),
            (&[(READS, "any")], Reads::Any, Consistency::Session),
            (&[(READS, "standby"), (CONSISTENCY, "strong")], Reads::Primary, Consistency::Strong),
        ] {
            let policy = apply(POLICY, &parameters(asked));
            assert_eq!(policy, ReadPolicy { reads, consistency, ..POLICY }, "{asked:?}");
        }
    }

    #[test]
    fn a_word_that_means_nothing_is_complained_of_once() {
        let (wrong, right) =
            (parameters(&[(READS, "none")]), parameters(&[(READS, "ANY"), (CONSISTENCY, "")]));
        assert!(check(&right).is_ok());
        assert_eq!(check(&wrong).unwrap_err().sqlstate, "22023");
        assert_eq!(complaints(&wrong, &right).count(), 1);
        assert_eq!(complaints(&wrong, &wrong).count(), 0);
    }
}
