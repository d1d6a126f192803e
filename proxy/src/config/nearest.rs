//! The known name that a misspelt one was most likely meant to be.

/// The nearest of the full names `known`: first within the same section, then the same key of another section, then
/// any that is close enough.
pub(crate) fn key<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let (section, leaf) = split(name);
    let siblings = known.clone().filter(|k| split(k).0 == section);
    let namesakes = || known.clone().find(|k| split(k).1 == leaf);
    closest(leaf, siblings, |k| split(k).1).or_else(namesakes).or_else(|| closest(name, known.clone(), |k| k))
}

/// The nearest of the plain names `known`.
pub(crate) fn word<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    closest(name, known, |k| k)
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn closest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    compared: impl Fn(&'a str) -> &'a str,
) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    // A third of the letters may be wrong, but two always: `sise`, `userr`, `max_clinets`.
    let most = (name.chars().count() / 3).max(2);
    known
        .map(|k| (strsim::damerau_levenshtein(&wanted, compared(k)), k))
        .filter(|(distance, k)| *distance <= most && *distance < compared(k).len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
