//! The known name that a misspelt one was most likely meant to be.

/// The nearest of the full names `known`: first within the same section, then the same key of another section, then
/// any that is close enough.
pub(crate) fn key<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    nearest(name, ".", known)
}

/// The nearest of the environment variables `known`, in the same order of preference.
pub(crate) fn variable<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    nearest(name, "__", known)
}

/// The nearest of the plain names `known`.
pub(crate) fn word<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    closest(name, known, |k| k)
}

fn nearest<'a>(name: &str, separator: &str, known: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let split = |name: &'a str| name.rsplit_once(separator).unwrap_or(("", name));
    let (section, leaf) = name.rsplit_once(separator).unwrap_or(("", name));
    let siblings = known.clone().filter(|k| split(k).0.eq_ignore_ascii_case(section));
    closest(leaf, siblings, |k| split(k).1)
        .or_else(|| closest(name, known.clone(), |k| k))
        .or_else(|| known.clone().find(|k| split(k).1.eq_ignore_ascii_case(leaf)))
}

fn closest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    compared: impl Fn(&'a str) -> &'a str,
) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    // A third of the letters may be wrong, two always: `sise`, `userr`, `max_clinets`. All of them never.
    let letters = name.chars().count();
    let most = (letters / 3).max(2);
    known
        // It takes as many changes as one is longer: a name of thousands of letters, which somebody has sent, is not even compared.
        .filter(|k| compared(k).chars().count().abs_diff(letters) <= most)
        .map(|k| (strsim::damerau_levenshtein(&wanted, &compared(k).to_ascii_lowercase()), k))
        .filter(|(distance, k)| *distance <= most && *distance < compared(k).len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
