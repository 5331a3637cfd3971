//! A reader with an adjustable limit: foreign archives are not trusted, and the data between two of
//! their files, which is read into memory, has another limit than the files.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Limit for the data between two files of an archive: headers, long names, padding. The tar reader
/// holds names and extended headers in memory.
pub(crate) const HEADERS: u64 = 1 << 20;

/// How many more bytes may be read, in all and of the present piece.
#[derive(Debug)]
pub(crate) struct Budget {
    total: Cell<u64>,
    piece: Cell<u64>,
}

impl Budget {
    /// A budget of `total` bytes; nothing can be read before the first piece.
    pub(crate) fn new(total: u64) -> Rc<Self> {
        Rc::new(Self { total: Cell::new(total), piece: Cell::new(0) })
    }

    /// Begins a new piece of at most `bytes`.
    pub(crate) fn piece(&self, bytes: u64) {
        self.piece.set(bytes);
    }
}

/// A reader that ends with [`io::ErrorKind::FileTooLarge`] where its budget does.
#[derive(Debug)]
pub(crate) struct Limited<R> {
    source: R,
    budget: Rc<Budget>,
}

impl<R: Read> Limited<R> {
    pub(crate) fn new(source: R, budget: &Rc<Budget>) -> Self {
        Self { source, budget: Rc::clone(budget) }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        for left in [&self.budget.total, &self.budget.piece] {
            let rest = left.get().checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
            left.set(rest);
        }
        Ok(read)
    }
}
