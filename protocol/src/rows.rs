//! Tables that pgherd tells clients of its own: their columns, and their rows in both formats.

use crate::write;

/// The column of a server's row of one, which is not NULL: `row` is the body of its DataRow message.
#[must_use]
pub fn one_column(row: &[u8]) -> Option<&[u8]> {
    let (one, rest) = first_column(row.strip_prefix(&1_u16.to_be_bytes())?)?;
    rest.is_empty().then_some(one)
}

/// The columns of a server's row of two, neither of which is NULL: `row` is the body of its DataRow message.
#[must_use]
pub fn two_columns(row: &[u8]) -> Option<[&[u8]; 2]> {
    let rest = row.strip_prefix(&2_u16.to_be_bytes())?;
    let (one, rest) = first_column(rest)?;
    let (other, rest) = first_column(rest)?;
    rest.is_empty().then_some([one, other])
}

/// The body of the DataRow message of such a row.
#[cfg(test)]
pub(crate) fn row_of_two(one: &str, other: &str) -> Box<[u8]> {
    let column = |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    [vec![0, 2], column(one), column(other)].concat().into()
}

fn first_column(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(i32::from_be_bytes(*len)).ok()?)
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `text`
    Text,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `numeric`
    Numeric,
    /// `bytea`
    Bytea,
}

impl Type {
    /// OID and `typlen`, as in `pg_type`.
    const fn described(self) -> (u32, i16) {
        match self {
            Self::Text => (25, -1),
            Self::Int4 => (23, 4),
            Self::Int8 => (20, 8),
            Self::Numeric => (1700, -1),
            Self::Bytea => (17, -1),
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
}

impl Column {
    /// A column.
    #[must_use]
    pub const fn new(name: &'static str, kind: Type) -> Self {
        Self { name, kind }
    }
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// NULL
    Null,
    /// Of a column of texts.
    Text(String),
    /// Of a column of numbers.
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    /// What is more than a `bigint` holds is taken for the most that it holds.
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row.
pub type Row = Vec<Value>;

/// In which format a client wants each column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats(Vec<bool>);

impl Formats {
    /// Text, as always with a Query.
    pub const TEXT: Self = Self(Vec::new());

    /// Reads the end of a Bind message: a count and so many codes, 0 for text and 1 for binary. `None` if it is anything else, or
    /// fits no table of so many columns.
    #[must_use]
    pub fn parse(bytes: &[u8], columns: usize) -> Option<Self> {
        let (count, codes) = bytes.split_first_chunk::<2>()?;
        let count = usize::from(u16::from_be_bytes(*count));
        let (codes, rest) = codes.as_chunks::<2>();
        if codes.len() != count || !rest.is_empty() || (count > 1 && count != columns) {
            return None;
        }
        let binary = |code: &[u8; 2]| match u16::from_be_bytes(*code) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        };
        codes.iter().map(binary).collect::<Option<Vec<_>>>().map(Self)
    }

    /// One code is for all columns, none at all is text.
    fn is_binary(&self, column: usize) -> bool {
        match &*self.0 {
            [all] => *all,
            each => each.get(column).copied().unwrap_or_default(),
        }
    }
}

/// RowDescription; or NoData where there are no columns.
pub fn description(out: &mut Vec<u8>, columns: &[Column], formats: &Formats) {
    if columns.is_empty() {
        return write::empty(out, b'n');
    }
    write::message(out, b'T', |out| {
        out.extend_from_slice(&count(columns.len()));
        for (index, column) in columns.iter().enumerate() {
            let (oid, len) = column.kind.described();
            write::cstr(out, column.name.as_bytes());
            out.extend_from_slice(&[0; 6]);
            out.extend_from_slice(&oid.to_be_bytes());
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&(-1_i32).to_be_bytes());
            out.extend_from_slice(&u16::from(formats.is_binary(index)).to_be_bytes());
        }
    });
}

/// DataRow.
pub fn data(out: &mut Vec<u8>, columns: &[Column], row: &[Value], formats: &Formats) {
    write::message(out, b'D', |out| {
        out.extend_from_slice(&count(columns.len()));
        for (index, column) in columns.iter().enumerate() {
            let value = row.get(index).unwrap_or(&Value::Null);
            write::value(out, |out| field(out, value, column.kind, formats.is_binary(index)));
        }
    });
}

/// Writes a value; false for NULL.
fn field(out: &mut Vec<u8>, value: &Value, kind: Type, binary: bool) -> bool {
    match (value, kind) {
        (Value::Null, _) => return false,
        (Value::Number(number), Type::Int4) if binary => {
            let narrow = i32::try_from(*number).unwrap_or(if *number < 0 { i32::MIN } else { i32::MAX });
            out.extend_from_slice(&narrow.to_be_bytes());
        }
        (Value::Number(number), Type::Int8) if binary => out.extend_from_slice(&number.to_be_bytes()),
        (Value::Number(number), Type::Numeric) if binary => numeric(out, *number),
        (Value::Number(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
        (Value::Text(text), _) => out.extend_from_slice(text.as_bytes()),
    }
    true
}

/// A `numeric` in binary: digits to the base of 10,000, and where they stand (`numeric_send()` in PostgreSQL's `numeric.c`).
fn numeric(out: &mut Vec<u8>, number: i64) {
    let mut rest = number.unsigned_abs();
    let mut digits = Vec::new();
    while rest > 0 {
        digits.push(u16::try_from(rest % 10_000).unwrap_or_default());
        rest /= 10_000;
    }
    let weight = digits.len().saturating_sub(1);
    // Zeros at the end are not sent.
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = digits.get(zeros..).unwrap_or_default();
    out.extend_from_slice(&count(digits.len()));
    out.extend_from_slice(&count(weight));
    out.extend_from_slice(&(if number < 0 { 0x4000_u16 } else { 0 }).to_be_bytes());
    out.extend_from_slice(&[0; 2]);
    digits.iter().rev().for_each(|digit| out.extend_from_slice(&digit.to_be_bytes()));
}

fn count(count: usize) -> [u8; 2] {
    u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_a_row_of_one_is_read_and_of_no_other() {
        assert_eq!(one_column(b"\0\x01\0\0\0\x02on"), Some(&b"on"[..]));
        assert_eq!(one_column(&row_of_two("on", "")), None);
        for broken in
            [&b""[..], b"\0\x01", b"\0\x01\xff\xff\xff\xff", b"\0\x01\0\0\0\x03on", b"\0\x01\0\0\0\x01on"]
        {
            assert_eq!(one_column(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn numbers_in_binary_are_what_postgresql_sends() {
        let sent = |number| {
            let mut out = Vec::new();
            numeric(&mut out, number);
            out
        };
        assert_eq!(sent(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(sent(7), [0, 1, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(sent(123_456_789), [0, 3, 0, 2, 0, 0, 0, 0, 0, 1, 9, 41, 26, 133]);
        assert_eq!(sent(-10_000), [0, 1, 0, 1, 0x40, 0, 0, 0, 0, 1], "zeros at the end are left out");
    }

    #[test]
    fn formats_are_for_all_columns_or_for_each() {
        let all = Formats::parse(&[0, 1, 0, 1], 3).unwrap();
        assert!((0..3).all(|column| all.is_binary(column)));
        let each = Formats::parse(&[0, 3, 0, 1, 0, 0, 0, 1], 3).unwrap();
        assert_eq!([0, 1, 2].map(|column| each.is_binary(column)), [true, false, true]);
        assert_eq!(Formats::parse(&[0, 0], 3), Some(Formats::TEXT));
        for bad in [&[][..], &[0], &[0, 1], &[0, 1, 0, 2], &[0, 2, 0, 0, 0, 0], &[0, 1, 0, 0, 0]] {
            assert_eq!(Formats::parse(bad, 3), None, "{bad:?}");
        }
    }

    #[test]
    fn a_row_has_as_many_fields_as_there_are_columns() {
        let columns = [Column::new("a", Type::Text), Column::new("b", Type::Int4)];
        let mut out = Vec::new();
        data(&mut out, &columns, &["x".into()], &Formats::TEXT);
        assert_eq!(out, b"D\0\0\0\x0f\0\x02\0\0\0\x01x\xff\xff\xff\xff");
    }
}
