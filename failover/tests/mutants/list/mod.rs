//! The mutants: each takes one safeguard away, or several where each of them is enough.

mod beside;
mod confirm;
mod herd;
mod operators;
mod promotion;

use std::iter::once;

/// A change by hand that must not go unnoticed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// What is given up.
    pub(crate) without: &'static str,
    edit: Edit,
    /// Other safeguards that are given up at once, since each of them would be enough.
    also: [Option<Edit>; 2],
}

/// One change of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edit {
    /// The file, from the root of the workspace.
    pub(crate) file: &'static str,
    /// Text that stands there once.
    pub(crate) find: &'static str,
    /// What stands there instead.
    pub(crate) replace: &'static str,
}

const fn mutant(
    without: &'static str,
    file: &'static str,
    find: &'static str,
    replace: &'static str,
) -> Mutant {
    Mutant { without, edit: Edit { file, find, replace }, also: [None; 2] }
}

impl Mutant {
    /// The same without this, too.
    const fn and(self, file: &'static str, find: &'static str, replace: &'static str) -> Self {
        let [first, _] = self.also;
        let edit = Some(Edit { file, find, replace });
        Self { also: if first.is_none() { [edit, None] } else { [first, edit] }, ..self }
    }

    /// The changes, in their order.
    pub(crate) fn edits(&self) -> impl DoubleEndedIterator<Item = Edit> {
        once(self.edit).chain(self.also.into_iter().flatten())
    }
}

/// All of them.
pub(crate) fn mutants() -> impl Iterator<Item = &'static Mutant> {
    let all = [confirm::MUTANTS, promotion::MUTANTS, herd::MUTANTS, beside::MUTANTS, operators::MUTANTS];
    all.into_iter().flatten()
}
