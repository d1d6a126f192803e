//! Durations and sizes, as the configuration writes them.

use std::time::Duration;

const DURATION_UNITS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: &[(&str, u64)] =
    &[("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `500ms`, `4s`, `1.5s`, `2min`, `1h`, `7d`. The error says what is wrong, without the text itself.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse(text, DURATION_UNITS, "500ms, 4s, 2min, 1h", 's').map(Duration::from_millis)
}

/// Reads `0B`, `512KiB`, `1MiB`, `1.5GiB`, in bytes. The error says what is wrong, without the text itself.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, SIZE_UNITS, "0B, 512KiB, 1MiB", 'B')
}

/// Writes a duration in the largest unit that divides it: the inverse of [`parse_duration`].
pub(crate) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS, "0s")
}

/// Writes a size in the largest unit that divides it: the inverse of [`parse_size`].
pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, SIZE_UNITS, "0B")
}

/// A value as PgBouncer's SHOW CONFIG writes it: durations in seconds, 0 for without end.
pub(crate) fn as_pgbouncer(text: &str) -> String {
    match parse_duration(text) {
        Ok(duration) if duration.subsec_millis() == 0 => duration.as_secs().to_string(),
        Ok(duration) => format!("{:.3}", duration.as_secs_f64()),
        Err(_) if text == "off" => "0".to_owned(),
        Err(_) => text.to_owned(),
    }
}

/// The inverse: a plain number is one of seconds, 0 is without end.
pub(crate) fn from_pgbouncer(text: &str) -> String {
    let text = text.trim();
    let is_number = text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !is_number {
        text.to_owned()
    } else if text.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        "off".to_owned()
    } else {
        format!("{text}s")
    }
}

/// True for what a key has that takes a duration.
pub(crate) fn is_duration(text: &str) -> bool {
    text == "off" || parse_duration(text).is_ok()
}

fn show(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", amount / factor),
        None => zero.to_owned(),
    }
}

fn parse(text: &str, units: &[(&str, u64)], examples: &str, usual: char) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err(format!("a number and a unit such as {examples}"));
    }
    if unit.is_empty() {
        return Err(format!("a number and a unit, such as `{number}{usual}`"));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let names: Vec<&str> = units.iter().rev().map(|(name, _)| *name).collect();
        return Err(format!("a number and one of the units {}", names.join(", ")));
    };
    scaled(number, *factor)
        .ok_or_else(|| format!("a number and a unit such as {examples}, not too fine or too great"))
}

/// `number` (digits, perhaps with a fraction) times `factor`, if that is a whole number that fits.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = u32::try_from(fraction.len()).ok().filter(|n| (1..=9).contains(n))?;
    let (denominator, factor) = (10_u128.pow(digits), u128::from(factor));
    let whole = u128::from(whole.parse::<u64>().ok()?);
    let fraction = u128::from(fraction.parse::<u64>().ok()?) * factor;
    (fraction % denominator == 0).then_some(())?;
    u64::try_from(whole * factor + fraction / denominator).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_are_read_in_the_units_that_people_write() {
        let millis = |text: &str| parse_duration(text).unwrap().as_millis();
        assert_eq!(
            ["500ms", "4s", "1.5s", "2min", "2 min", "1h", "7d"].map(millis),
            [500, 4_000, 1_500, 120_000, 120_000, 3_600_000, 604_800_000]
        );
        assert_eq!(
            ["0B", "512KiB", "1MiB", "1.5GiB"].map(|t| parse_size(t).unwrap()),
            [0, 524_288, 1_048_576, 1_610_612_736]
        );
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_the_unit_that_is_missing() {
        assert_eq!(parse_duration("30").unwrap_err(), "a number and a unit, such as `30s`");
        assert_eq!(parse_size("1024").unwrap_err(), "a number and a unit, such as `1024B`");
    }

    #[test]
    fn what_is_ambiguous_or_too_great_is_refused() {
        for text in [
            "",
            "s",
            "5m",
            "-1s",
            "1.s",
            "1.2.3s",
            "0.0001s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["1MB", "1kb", "1M", "1mib", "99999999TiB", "0.1B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC*", number in "[0-9.]{0,30}", unit in "(ms|s|min|h|d|B|TiB)") {
            let _ = (parse_duration(&text), parse_size(&text));
            let text = number + &unit;
            let _ = (parse_duration(&text), parse_size(&text));
        }

        #[test]
        fn what_is_shown_reads_as_the_same(amount: u64) {
            let duration = Duration::from_millis(amount);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(amount)), Ok(amount));
        }
    }
}
