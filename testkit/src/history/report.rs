use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use super::{Outcome, Read, Record, Seen};

/// A row of the table `history`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The number of the client, from 0.
    pub client: i32,
    /// Its number of the attempt, which grows.
    pub sequence: i64,
}

/// What the comparison of a record with the table found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many were acknowledged.
    pub acknowledged: usize,
    /// How many were certainly not committed, as the client was told.
    pub refused: usize,
    /// Acknowledged and not in the table: lost.
    pub missing: Vec<Row>,
    /// Acknowledged with the warning that only the primary has it, and not in the table: lost as announced.
    pub missing_local: Vec<Row>,
    /// In the table although it was refused.
    pub present_refused: Vec<Row>,
    /// In the table more than once.
    pub duplicates: Vec<Row>,
    /// In the table although nobody attempted it.
    pub unexpected: Vec<Row>,
    /// Unknown, and in the table.
    pub unknown_present: Vec<Row>,
    /// Unknown, and not in the table.
    pub unknown_absent: Vec<Row>,
    /// How many reads saw what they must.
    pub reads: usize,
    /// Reads that got no answer, by SQLSTATE or `lost`.
    pub reads_refused: BTreeMap<String, usize>,
    /// In the table, and not seen by the client that had written it.
    pub stale: Vec<Row>,
    /// Sums of all accounts that were wrong.
    pub wrong_sums: Vec<String>,
    /// Errors and warnings by SQLSTATE; `lost` counts attempts whose connection ended without one.
    pub sqlstates: BTreeMap<String, usize>,
    /// How often an established connection was lost.
    pub connections_lost: usize,
    /// How many logins failed.
    pub logins_failed: usize,
    /// When each acknowledgement came, in order.
    acknowledgements: Vec<Instant>,
    /// When each right answer to a read came, in order.
    answers: Vec<Instant>,
}

impl Report {
    /// Holds a record against the rows that the table has, in any order and with any repetition.
    pub fn compare(record: &Record, rows: impl IntoIterator<Item = Row>) -> Self {
        let mut report = Self {
            connections_lost: record.connections_lost,
            logins_failed: record.logins_failed.len(),
            ..Self::default()
        };
        let mut present = BTreeSet::new();
        for row in rows {
            if !present.insert(row) {
                report.duplicates.push(row);
            }
        }
        let mut attempted = BTreeSet::new();
        for attempt in &record.attempts {
            attempted.insert(attempt.row);
            report.judge(&attempt.outcome, attempt.row, attempt.ended, present.contains(&attempt.row));
        }
        for read in &record.reads {
            report.judge_read(read, &present);
        }
        report.unexpected = present.difference(&attempted).copied().collect();
        report.acknowledgements.sort_unstable();
        report.answers.sort_unstable();
        report
    }

    fn judge_read(&mut self, read: &Read, present: &BTreeSet<Row>) {
        match &read.seen {
            Seen::Right => {
                self.reads += 1;
                self.answers.push(read.ended);
            }
            // One that is not in the table is lost, which counts already.
            Seen::Missing(row) => self.stale.extend(present.get(row)),
            Seen::WrongSum(sum) => self.wrong_sums.push(sum.clone()),
            Seen::Refused { sqlstate } => *self.reads_refused.entry(sqlstate.clone()).or_default() += 1,
        }
    }

    fn judge(&mut self, outcome: &Outcome, row: Row, ended: Instant, is_present: bool) {
        match outcome {
            Outcome::Acknowledged => {
                self.acknowledged += 1;
                self.acknowledgements.push(ended);
                if !is_present {
                    self.missing.push(row);
                }
            }
            Outcome::AcknowledgedLocally { sqlstate } => {
                self.count(sqlstate);
                if !is_present {
                    self.missing_local.push(row);
                }
            }
            Outcome::Refused { sqlstate } => {
                self.count(sqlstate);
                self.refused += 1;
                if is_present {
                    self.present_refused.push(row);
                }
            }
            Outcome::Unknown { sqlstate } => {
                self.count(sqlstate);
                if is_present { &mut self.unknown_present } else { &mut self.unknown_absent }.push(row);
            }
        }
    }

    fn count(&mut self, sqlstate: &str) {
        *self.sqlstates.entry(sqlstate.to_owned()).or_default() += 1;
    }

    /// Whether no acknowledged row is missing, and nothing is in the table that must not be.
    pub fn is_sound(&self) -> bool {
        self.missing.is_empty() && self.is_exact()
    }

    /// Whether nothing is in the table that must not be, and every read saw what it must; with asynchronous replication, rows may be
    /// missing.
    pub fn is_exact(&self) -> bool {
        let table =
            self.present_refused.is_empty() && self.duplicates.is_empty() && self.unexpected.is_empty();
        table && self.stale.is_empty() && self.wrong_sums.is_empty()
    }

    /// The longest time without an acknowledgement among those that end after `moment`: from the last acknowledged write
    /// before to the first after. Nothing when none was acknowledged after it.
    ///
    /// An answer that was under way at `moment` may come just after it; so the longest gap counts, not the first.
    pub fn write_outage(&self, moment: Instant) -> Option<Duration> {
        longest_gap(&self.acknowledgements, moment)
    }

    /// The same for reads.
    pub fn read_outage(&self, moment: Instant) -> Option<Duration> {
        longest_gap(&self.answers, moment)
    }
}

fn longest_gap(instants: &[Instant], moment: Instant) -> Option<Duration> {
    let gaps = instants.iter().zip(instants.iter().skip(1));
    gaps.filter(|(_, after)| **after > moment).map(|(before, after)| *after - *before).max()
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} acknowledged, {} refused, {} unknown (present {}, absent {}); lost {}, lost as announced {}, present though \
             refused {}, twice {}, from nowhere {}; connections lost {}, logins failed {}; by SQLSTATE {:?}; {} reads, stale {}, \
             wrong {}, by SQLSTATE {:?}",
            self.acknowledged,
            self.refused,
            self.unknown_present.len() + self.unknown_absent.len(),
            self.unknown_present.len(),
            self.unknown_absent.len(),
            self.missing.len(),
            self.missing_local.len(),
            self.present_refused.len(),
            self.duplicates.len(),
            self.unexpected.len(),
            self.connections_lost,
            self.logins_failed,
            self.sqlstates,
            self.reads,
            self.stale.len(),
            self.wrong_sums.len(),
            self.reads_refused,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Attempt;
    use super::*;

    fn row(sequence: i64) -> Row {
        Row { client: 0, sequence }
    }

    fn record(outcomes: &[Outcome]) -> Record {
        let begun = Instant::now();
        let attempts = outcomes.iter().zip(1..).map(|(outcome, sequence)| Attempt {
            row: row(sequence),
            begun,
            ended: begun,
            outcome: outcome.clone(),
        });
        Record { attempts: attempts.collect(), ..Record::default() }
    }

    fn refused() -> Outcome {
        Outcome::Refused { sqlstate: "40001".to_owned() }
    }

    fn unknown() -> Outcome {
        Outcome::Unknown { sqlstate: "08007".to_owned() }
    }

    #[test]
    fn a_table_with_exactly_what_was_acknowledged_is_sound() {
        let report = Report::compare(
            &record(&[Outcome::Acknowledged, refused(), Outcome::Acknowledged]),
            [row(3), row(1)],
        );
        assert!(report.is_sound());
        assert_eq!((report.acknowledged, report.refused), (2, 1));
        assert_eq!(report.sqlstates, BTreeMap::from([("40001".to_owned(), 1)]));
    }

    #[test]
    fn an_acknowledged_row_that_is_missing_is_lost() {
        let report = Report::compare(&record(&[Outcome::Acknowledged, Outcome::Acknowledged]), [row(2)]);
        assert_eq!(report.missing, [row(1)]);
        assert!(!report.is_sound() && report.is_exact());
    }

    #[test]
    fn a_refused_row_that_is_there_is_wrong() {
        let report = Report::compare(&record(&[refused()]), [row(1)]);
        assert_eq!(report.present_refused, [row(1)]);
        assert!(!report.is_exact());
    }

    #[test]
    fn a_row_that_is_there_twice_is_wrong() {
        let report = Report::compare(&record(&[Outcome::Acknowledged]), [row(1), row(1)]);
        assert_eq!(report.duplicates, [row(1)]);
        assert!(!report.is_exact());
    }

    #[test]
    fn a_row_that_nobody_wrote_is_wrong() {
        let report = Report::compare(&record(&[]), [row(1)]);
        assert_eq!(report.unexpected, [row(1)]);
        assert!(!report.is_exact());
    }

    #[test]
    fn an_unknown_row_may_be_there_or_not() {
        let report = Report::compare(&record(&[unknown(), unknown()]), [row(2)]);
        assert!(report.is_sound());
        assert_eq!(
            (report.unknown_absent.as_slice(), report.unknown_present.as_slice()),
            (&[row(1)][..], &[row(2)][..])
        );
    }

    #[test]
    fn a_local_commit_that_is_missing_is_counted_apart() {
        let local = Outcome::AcknowledgedLocally { sqlstate: "01000".to_owned() };
        let report = Report::compare(&record(&[local]), []);
        assert!(report.is_sound());
        assert_eq!(report.missing_local, [row(1)]);
    }

    #[test]
    fn the_outage_is_the_longest_gap_that_ends_after_the_moment() {
        let mut record = record(&vec![Outcome::Acknowledged; 5]);
        let start = Instant::now();
        // A gap of 900 ms before the moment, an answer that was under way, the outage of 700 ms.
        for (attempt, at) in record.attempts.iter_mut().zip([0, 900, 1010, 1710, 1720]) {
            attempt.ended = start + Duration::from_millis(at);
        }
        let report = Report::compare(&record, (1..=5).map(row));
        let moment = start + Duration::from_millis(1000);
        assert_eq!(report.write_outage(moment), Some(Duration::from_millis(700)));
        assert_eq!(report.write_outage(start + Duration::from_secs(2)), None);
    }
}
