//! What a session asks for its own reads, by custom parameters that mean something to pgherd alone.

use pgherd_protocol::error::{ClientError, Severity};
use pgherd_protocol::parameters::Parameters;

use super::acquire::Access;
use super::relay::Front;
use crate::config::{Choice, Consistency, ReadPolicy, Reads};
use crate::server::marks::{After, Positions};
use crate::verifiers::Role;

const CONSISTENCY: &str = "pgherd.consistency";
const READS: &str = "pgherd.reads";
const AFTER: &str = "pgherd.after";
/// Instead of a position.
const NOW: &str = "now";

/// Takes out to what a session is pointed, if it is. It is no parameter of the session, and for no server: sessions that differ in
/// nothing else share connections.
///
/// # Errors
/// 22023.
pub(super) fn take_after(parameters: &mut Parameters) -> Result<Option<After>, ClientError> {
    match parameters.take(AFTER).as_deref() {
        None | Some("") => Ok(None),
        Some(now) if now.eq_ignore_ascii_case(NOW) => Ok(Some(After::Now)),
        Some(position) => match position.parse() {
            Ok(lsn) => Ok(Some(After::Position(lsn))),
            Err(_) => Err(invalid(AFTER, position)
                .hint("A position in the write-ahead log, as pg_current_wal_insert_lsn() gives it, or now.")),
        },
    }
}

fn invalid(name: &str, value: &str) -> ClientError {
    ClientError::new("22023", format!("invalid value for parameter \"{name}\": \"{value}\""))
}

/// What is asked for by sessions of a role that were told nothing else, in one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Defaults {
    consistency: Option<Box<str>>,
    reads: Option<Box<str>>,
}

impl Defaults {
    /// What ALTER ROLE and ALTER DATABASE say for this role and database.
    pub(super) fn of(role: Option<&Role>, database: &str) -> Self {
        let asks_for = |name| Some(role?.asks_for(database, name)?.into());
        Self { consistency: asks_for(CONSISTENCY), reads: asks_for(READS) }
    }
}

/// `policy`, but for what these parameters ask for, or where they do not, `defaults`. A word that means nothing is taken for the strictest.
pub(super) fn apply(policy: ReadPolicy, parameters: &Parameters, defaults: Option<&Defaults>) -> ReadPolicy {
    let reads = defaults.and_then(|defaults| defaults.reads.as_deref());
    let consistency = defaults.and_then(|defaults| defaults.consistency.as_deref());
    let reads = asked(parameters, READS, reads).map(|word| Reads::named(word).unwrap_or(Reads::Primary));
    let consistency = asked(parameters, CONSISTENCY, consistency)
        .map(|word| Consistency::named(word).unwrap_or(Consistency::Strong));
    ReadPolicy {
        reads: reads.unwrap_or(policy.reads),
        consistency: consistency.unwrap_or(policy.consistency),
        ..policy
    }
}

/// None where nothing is asked for: PostgreSQL leaves a custom parameter empty that was taken back.
fn asked<'a>(parameters: &'a Parameters, name: &str, default: Option<&'a str>) -> Option<&'a str> {
    parameters.get(name).or(default).filter(|word| !word.is_empty())
}

/// Refuses a startup packet whose words mean nothing, as PostgreSQL does where it knows the parameter.
///
/// # Errors
/// 22023.
pub(super) fn check(parameters: &Parameters) -> Result<(), ClientError> {
    complaints(parameters, &Parameters::default()).next().map_or(Ok(()), Err)
}

/// The session has other parameters than before, and is pointed to `after`, if that could be told. The client is told of words that mean
/// nothing: the server has taken them, and knows no better.
pub(super) fn heed(
    front: &mut Front,
    (access, before): (&mut Access, &Parameters),
    after: Result<Option<After>, ClientError>,
    positions: &Positions,
) {
    let (after, complaint) = match after {
        Ok(after) => (after, None),
        Err(complaint) => (Some(After::Now), Some(complaint.detail("It is taken for now."))),
    };
    access.standbys.point_to(after, positions);
    let others = complaints(&access.parameters, before)
        .map(|it| it.detail("Until it has another value, the session reads from the primary."));
    for complaint in others.chain(complaint) {
        let (database, user) = (access.database(), access.user());
        tracing::info!(%database, %user, reason = %complaint.message, "what a session asks for means nothing");
        complaint.write(front.down.append(), Severity::Notice);
    }
}

/// What is wrong with words that were not in force before.
fn complaints<'a>(
    parameters: &'a Parameters,
    before: &'a Parameters,
) -> impl Iterator<Item = ClientError> + 'a {
    let complaint = |name: &str, is_known: fn(&str) -> bool, available: &'static str| {
        let word =
            asked(parameters, name, None).filter(|word| !is_known(word) && before.get(name) != Some(word))?;
        Some(invalid(name, word).hint(available))
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
    use pgherd_health::Lsn;

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
            let policy = apply(POLICY, &parameters(asked), None);
            assert_eq!(policy, ReadPolicy { reads, consistency, ..POLICY }, "{asked:?}");
        }
        let defaults = Defaults { consistency: Some("eventual".into()), reads: Some("all".into()) };
        let policy = |asked| apply(POLICY, &parameters(asked), Some(&defaults));
        let strict = ReadPolicy { reads: Reads::Primary, consistency: Consistency::Eventual, ..POLICY };
        assert_eq!(policy(&[]), strict);
        assert_eq!(policy(&[(READS, "any"), (CONSISTENCY, "")]), ReadPolicy { reads: Reads::Any, ..POLICY });
    }

    #[test]
    fn a_position_is_taken_out_of_the_parameters() {
        let read = |value: &str| {
            let mut asked = parameters(&[(AFTER, value), (READS, "any")]);
            let after = take_after(&mut asked);
            assert_eq!(asked, parameters(&[(READS, "any")]));
            after.map_err(|error| error.sqlstate)
        };
        assert_eq!(read("16/B374D848"), Ok(Some(After::Position(Lsn(0x16_B374_D848)))));
        assert_eq!([read("NOW"), read("")], [Ok(Some(After::Now)), Ok(None)]);
        assert_eq!(read("yesterday"), Err("22023".into()));
        assert_eq!(take_after(&mut parameters(&[])), Ok(None));
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
