//! Reads timeline history files.

use crate::{HistoryEntry, TimelineHistory, TimelineId};

/// Parses the history file of `timeline` as strictly as PostgreSQL's `readTimeLineHistory` does.
///
/// # Errors
/// Why it is none.
pub fn parse_history(timeline: TimelineId, text: &str) -> Result<TimelineHistory, String> {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut fields = line.split_ascii_whitespace();
        let ended = fields.next().and_then(|number| number.parse().ok()).map(TimelineId);
        let switch_point = fields.next().and_then(|lsn| lsn.parse().ok());
        let (Some(ended), Some(switch_point)) = (ended, switch_point) else {
            return Err(format!("the history of timeline {} has a line that is none", timeline.0));
        };
        let after_last = entries
            .last()
            .is_none_or(|last: &HistoryEntry| last.timeline < ended && last.switch_point <= switch_point);
        if ended.0 == 0 || ended >= timeline || !after_last {
            return Err(format!("the history of timeline {} is out of order", timeline.0));
        }
        entries.push(HistoryEntry { timeline: ended, switch_point });
    }
    if entries.is_empty() {
        return Err(format!("the history of timeline {} names no ancestor", timeline.0));
    }
    Ok(TimelineHistory(entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lsn;

    #[test]
    fn reads_what_a_promotion_writes() {
        let text =
            "1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tno recovery target specified\n";
        let history = parse_history(TimelineId(3), text).unwrap();
        let entry = |timeline, lsn| HistoryEntry { timeline: TimelineId(timeline), switch_point: Lsn(lsn) };
        assert_eq!(history.0, [entry(1, 0x300_0148), entry(2, 0x500_0060)]);
    }

    #[test]
    fn refuses_what_is_no_history() {
        for text in [
            "",
            "# only a comment\n",
            "1\n",
            "one 0/3\n",
            "1 0/x\n",
            "3 0/4\n",
            "2 0/3\n1 0/4\n",
            "1 0/9\n2 0/4\n",
        ] {
            assert!(parse_history(TimelineId(3), text).is_err(), "{text:?}");
        }
    }
}
