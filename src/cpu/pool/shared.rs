//! Memory that the threads of a team write in disjoint parts.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::Range;

use memmap2::MmapMut;

use crate::error::{Error, ErrorKind, Result};

/// A list of plain numbers whose parts may be written by different threads at the same time.
///
/// Contract of [`Shared::write`], kept by the executor: within one step of the team no two chunks write a common
/// element, and no chunk reads what another one writes. `Plan::verify` proves it for operands (nothing is both read
/// and written by a step but by the same row in place); the executor cuts chunks by whole rows or by disjoint
/// columns. Between steps the team's counters order all writes before all later reads.
pub(crate) struct Shared<T>(Memory<T>);

/// Where the elements lie.
enum Memory<T> {
    Heap(Vec<UnsafeCell<T>>),
    /// Whole elements of a private map, which nothing else refers to.
    Map(MmapMut),
}

// SAFETY: elements are plain numbers; `write` is used under the contract above, which excludes data races.
unsafe impl<T: bytemuck::Pod + Send + Sync> Sync for Shared<T> {}

impl<T: bytemuck::Pod> Shared<T> {
    /// No elements.
    pub const fn new() -> Self {
        Self(Memory::Heap(Vec::new()))
    }

    /// The elements of a private map, copied page by page when they are written. `None` where it is not made of whole,
    /// aligned elements.
    pub fn from_map(map: MmapMut) -> Option<Self> {
        let fits = map.len().is_multiple_of(size_of::<T>()) && map.as_ptr().cast::<T>().is_aligned();
        fits.then_some(Self(Memory::Map(map)))
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.cells().len()
    }

    fn cells(&self) -> &[UnsafeCell<T>] {
        match &self.0 {
            Memory::Heap(cells) => cells,
            // SAFETY: `from_map` found whole, aligned elements, any bytes are one (`Pod`), and `UnsafeCell<T>` has the
            // layout of `T`. The map is private, and no slice of it is ever made but here.
            Memory::Map(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast::<UnsafeCell<T>>(), map.len() / size_of::<T>())
            },
        }
    }

    /// Makes it at least `n` long; new elements are zero. Those of a map move to the heap.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`]; the contents are as before.
    pub fn grow(&mut self, n: usize) -> Result<()> {
        let len = self.len();
        if n <= len {
            return Ok(());
        }
        let no_room = |e: std::collections::TryReserveError| {
            let bytes = n.saturating_mul(size_of::<T>());
            Error::new(ErrorKind::Memory, format!("cannot allocate {bytes} bytes: {e}")).caused_by(e)
        };
        if let Memory::Map(_) = &self.0 {
            let mut cells = Vec::new();
            cells.try_reserve_exact(n).map_err(no_room)?;
            cells.extend(self.read(0..len).iter().map(|x| UnsafeCell::new(*x)));
            self.0 = Memory::Heap(cells);
        }
        if let Memory::Heap(cells) = &mut self.0 {
            cells.try_reserve_exact(n - len).map_err(no_room)?;
            cells.resize_with(n, || UnsafeCell::new(T::zeroed()));
        }
        Ok(())
    }

    /// Elements that no other chunk writes in this step.
    pub fn read(&self, range: Range<usize>) -> &[T] {
        let part = &self.cells()[range];
        // SAFETY: `UnsafeCell<T>` has the layout of `T`; the range is in bounds; the contract excludes writers.
        unsafe { std::slice::from_raw_parts(part.as_ptr().cast::<T>(), part.len()) }
    }

    /// Writes an element that belongs to the calling chunk alone in this step (the contract of the type).
    pub fn set(&self, i: usize, x: T) {
        self.write(i..i + 1)[0] = x;
    }

    /// Elements that belong to the calling chunk alone in this step (the contract of the type).
    #[allow(clippy::mut_from_ref)]
    pub fn write(&self, range: Range<usize>) -> &mut [T] {
        let part = &self.cells()[range];
        // SAFETY: `UnsafeCell<T>` has the layout of `T` and allows writing through a shared reference; the range is
        // in bounds; the contract makes the caller the only one that uses these elements.
        unsafe { std::slice::from_raw_parts_mut(part.as_ptr().cast::<T>().cast_mut(), part.len()) }
    }
}
