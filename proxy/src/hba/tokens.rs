//! Cuts the text of `pg_hba.conf`, `pg_ident.conf` and the files that they name into lines of fields of tokens, as PostgreSQL's
//! `tokenize_auth_file` does.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::Mistake;

/// Files within files, at most (PostgreSQL's `CONF_FILE_MAX_DEPTH`).
const DEEPEST: usize = 10;
/// What the files of names may have in all, each as often as it is named: two that name each other twice in a line would be read a thousand times,
/// and more with every further time.
const MOST_NAMED: usize = 16 * 1024 * 1024;

/// Gives the text of a file, or why it cannot be read.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// A word, and whether it began with a quote: then it is no keyword.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) quoted: bool,
}

impl Token {
    /// True for this keyword, which no quote has made a name.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// The regular expression, if it is one: with a comma or a blank in it, it stands in quotes.
    pub(super) fn expression(&self) -> Option<&str> {
        self.text.strip_prefix('/')
    }

    /// What follows this first character, where no quote has made it part of a name.
    pub(super) fn after(&self, sign: char) -> Option<&str> {
        self.text.strip_prefix(sign).filter(|_| !self.quoted)
    }
}

/// Tokens with commas between them.
pub(super) type Field = Vec<Token>;

/// A line that holds anything.
#[derive(Debug)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: usize,
    pub(super) fields: Vec<Field>,
}

/// The lines of the file at `path`.
///
/// # Errors
/// Files that cannot be read, with the lines that name them.
pub(super) fn lines(path: &Path, read: ReadFile<'_>) -> Result<Vec<Line>, Vec<Mistake>> {
    let mistake = |line, message| Mistake { path: path.into(), line, message };
    let text = read(path).map_err(|why| vec![mistake(1, why)])?;
    let (mut lines, mut mistakes) = (Vec::new(), Vec::new());
    let named = Named { read, left: Cell::new(MOST_NAMED) };
    for (number, text) in joined(&text) {
        match fields(&text, path, &named, 0) {
            Ok(fields) if fields.is_empty() => {}
            Ok(fields) => lines.push(Line { number, fields }),
            Err(message) => mistakes.push(mistake(number, message)),
        }
    }
    if mistakes.is_empty() { Ok(lines) } else { Err(mistakes) }
}

/// Reads files of names, and not too much of them.
struct Named<'a> {
    read: ReadFile<'a>,
    left: Cell<usize>,
}

impl Named<'_> {
    fn read(&self, file: &Path) -> Result<String, String> {
        let text = (self.read)(file)?;
        // An empty file is read in vain, too.
        let left = self.left.get().checked_sub(text.len() + 1);
        let left =
            left.ok_or_else(|| format!("{}: files of names have more than 16 MiB in all", file.display()))?;
        self.left.set(left);
        Ok(text)
    }
}

/// Lines with their numbers; one that ends with a backslash goes on in the next.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (index, line) in text.lines().enumerate() {
        // As PostgreSQL does, also at the end of the file.
        let line = line.trim_end_matches('\r');
        match lines.last_mut().filter(|_| goes_on) {
            Some((_, before)) => before.push_str(line),
            None => lines.push((index + 1, line.to_owned())),
        }
        goes_on = line.ends_with('\\');
        if let Some((_, line)) = lines.last_mut().filter(|_| goes_on) {
            line.pop();
        }
    }
    lines
}

fn fields(text: &str, path: &Path, named: &Named<'_>, depth: usize) -> Result<Vec<Field>, String> {
    let mut rest = Rest(text);
    let mut fields = Vec::new();
    while let Some((first, mut more)) = rest.token() {
        let mut field = Vec::new();
        expand(first, path, named, depth, &mut field)?;
        while more {
            let Some((token, comma)) = rest.token() else { break };
            expand(token, path, named, depth, &mut field)?;
            more = comma;
        }
        // A file of names may be empty.
        fields.push(field);
    }
    Ok(fields)
}

/// Adds a token, or those of the file that it names.
fn expand(token: Token, path: &Path, named: &Named<'_>, depth: usize, out: &mut Field) -> Result<(), String> {
    let Some(name) = token.after('@').filter(|name| !name.is_empty()) else {
        out.push(token);
        return Ok(());
    };
    let file: PathBuf = path.parent().unwrap_or(Path::new("")).join(name);
    if depth >= DEEPEST {
        return Err(format!("{}: files name each other more than {DEEPEST} deep", file.display()));
    }
    for (_, line) in joined(&named.read(&file)?) {
        out.extend(fields(&line, &file, named, depth + 1)?.into_iter().flatten());
    }
    Ok(())
}

struct Rest<'a>(&'a str);

impl Rest<'_> {
    /// The next token, and whether a comma follows it; none at the end or before a comment.
    fn token(&mut self) -> Option<(Token, bool)> {
        let text = self.0.trim_start_matches(|c| is_blank(c) || c == ',');
        let mut token = Token { text: String::new(), quoted: text.starts_with('"') };
        let (mut in_quotes, mut was_quote, mut comma) = (false, false, false);
        let mut chars = text.char_indices();
        let end = loop {
            let Some((at, c)) = chars.next() else { break text.len() };
            if !in_quotes && c == '#' {
                // The comment is left where it is, and the next look ends there too.
                break at;
            }
            if !in_quotes && (is_blank(c) || c == ',') {
                comma = c == ',';
                break at + c.len_utf8();
            }
            if c != '"' || was_quote {
                token.text.push(c);
            }
            was_quote = in_quotes && c == '"' && !was_quote;
            in_quotes ^= c == '"';
        };
        self.0 = text.get(end..).unwrap_or_default();
        (!token.text.is_empty() || token.quoted).then_some((token, comma))
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r')
}

/// Reads files from the disk, each no longer than such a file is ever.
pub(crate) fn from_disk(path: &Path) -> Result<String, String> {
    use std::io::Read;
    const MOST: u64 = 16 * 1024 * 1024;
    let why = |error: std::io::Error| format!("{}: can't be read: {error}", path.display());
    let mut text = String::new();
    std::fs::File::open(path).map_err(why)?.take(MOST + 1).read_to_string(&mut text).map_err(why)?;
    if text.len() as u64 > MOST {
        return Err(format!("{}: is longer than 16 MiB", path.display()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<Vec<String>> {
        let read = |path: &Path| match path.to_str().unwrap() {
            "/etc/main" => Ok(text.to_owned()),
            "/etc/names" => Ok("anna, bert # two\n\n\"carla\"\n@more".to_owned()),
            "/etc/more" => Ok("dora".to_owned()),
            "/etc/loop" => Ok("@loop".to_owned()),
            other => Err(format!("{other}: is not there")),
        };
        let show =
            |token: &Token| if token.quoted { format!("'{}'", token.text) } else { token.text.clone() };
        match lines(Path::new("/etc/main"), &read) {
            Ok(lines) => lines
                .iter()
                .map(|line| {
                    let fields = line.fields.iter();
                    fields.map(|field| field.iter().map(show).collect::<Vec<_>>().join(",")).collect()
                })
                .collect(),
            Err(mistakes) => vec![mistakes.iter().map(ToString::to_string).collect()],
        }
    }

    #[test]
    fn lines_are_cut_as_postgresql_cuts_them() {
        assert_eq!(
            cut("host  all\tall # why\n\n# nothing\nlocal"),
            [vec!["host", "all", "all"], vec!["local"]]
        );
        assert_eq!(cut("a,b, c ,d"), [vec!["a,b,c", "d"]]);
        assert_eq!(
            cut("\"all\" \"a b\" \"x\"\"y\" \"#\" \"\""),
            [vec!["'all'", "'a b'", "'x\"y'", "'#'", "''"]]
        );
        assert_eq!(cut("one \\\ntwo\\\nthree\nfour"), [vec!["one", "twothree"], vec!["four"]]);
        assert_eq!(cut("a#b"), [vec!["a"]]);
    }

    #[test]
    fn a_file_of_names_stands_for_them() {
        assert_eq!(cut("x @names,eve y"), [vec!["x", "anna,bert,'carla',dora,eve", "y"]]);
        assert_eq!(cut("x \"@names\""), [vec!["x", "'@names'"]]);
        assert_eq!(cut("x\ny @gone"), [vec!["/etc/main:2: /etc/gone: is not there"]]);
        assert!(cut("@loop")[0][0].contains("more than 10 deep"));
    }

    #[test]
    fn files_that_name_others_again_and_again_are_not_read_without_end() {
        // Ten files, of which each names the next twenty times.
        let read = |path: &Path| {
            let number = path
                .to_str()
                .and_then(|path| path.strip_prefix("/etc/f"))
                .map_or(0, |it| it.parse().unwrap());
            let last = || format!("ada # {}", "x".repeat(64 * 1024));
            Ok(if number < 10 { format!("@f{} ", number + 1).repeat(20) } else { last() })
        };
        let mistakes = lines(Path::new("/etc/main"), &read).unwrap_err();
        assert!(mistakes[0].message.ends_with("have more than 16 MiB in all"), "{}", mistakes[0]);
    }
}
