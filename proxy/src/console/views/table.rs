//! Rows whose values have the names of their columns.

use pgherd_protocol::rows::Column;

use super::text;

/// A struct with one value for each column, and the columns in the same order.
macro_rules! table {
    ($(#[$doc:meta])* $columns:ident, $row:ident { $($field:ident = $column:expr),* $(,)? }) => {
        $(#[$doc])*
        pub(super) const $columns: &[Column] = &[$($column),*];

        struct $row {
            $($field: Value),*
        }

        impl From<$row> for Row {
            fn from(row: $row) -> Self {
                vec![$(row.$field),*]
            }
        }
    };
}

pub(super) use table;

/// The columns of two tables, as many as `N`, side by side.
#[allow(clippy::indexing_slicing, reason = "a const fn has no other way; it is run by the compiler")]
pub(super) const fn beside<const N: usize>(first: &[Column], second: &[Column]) -> [Column; N] {
    assert!(first.len() + second.len() == N, "there are as many columns");
    let mut columns = [text(""); N];
    let mut at = 0;
    while at < N {
        columns[at] = if at < first.len() { first[at] } else { second[at - first.len()] };
        at += 1;
    }
    columns
}
