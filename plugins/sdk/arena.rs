//! The allocator of plugins: a bump arena in `.bss`, and the standard allocator for the rest.
//!
//! The standard allocator of `wasm32-unknown-unknown` begins with `memory.grow`. That costs the host an `mprotect` for
//! each new instance, and a TLB shootdown if threads share the process: measured, a call of a small plugin takes seven
//! times as long. Memory in `.bss` exists already. A call rarely needs more than the arena; the standard allocator serves
//! the rest. The arena frees a block only if it is the last one, which suffices because an instance lives for one call.

#[cfg(target_family = "wasm")]
#[expect(unsafe_code, reason = "an allocator cannot be written without; this is the SDK's only hand-written unsafe")]
mod bump {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::{Cell, UnsafeCell};

    /// Enough for a question of a few objects and its parsed form. Pages that are not used cost nothing.
    const SIZE: usize = 256 * 1024;

    /// The alignment of most types; `reserve` aligns for larger ones.
    #[repr(C, align(16))]
    struct Arena {
        bytes: UnsafeCell<[u8; SIZE]>,
        used: Cell<usize>,
    }

    // SAFETY: wasm32-unknown-unknown without the atomics feature has one thread.
    unsafe impl Sync for Arena {}

    static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; SIZE]), used: Cell::new(0) };

    struct Bump;

    impl Arena {
        fn base(&self) -> *mut u8 {
            self.bytes.get().cast()
        }

        /// The offset of a block of the arena; `None` for any other block.
        fn offset(&self, block: *mut u8) -> Option<usize> {
            (block as usize).checked_sub(self.base() as usize).filter(|offset| *offset < SIZE)
        }

        /// Reserves a block behind the last one; `None` if it does not fit.
        fn reserve(&self, layout: Layout) -> Option<*mut u8> {
            let base = self.base() as usize;
            let start = (base + self.used.get()).checked_next_multiple_of(layout.align())? - base;
            let end = start.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
            self.used.set(end);
            Some(self.base().wrapping_add(start))
        }
    }

    // SAFETY: `reserve` returns blocks inside the arena that are aligned and large enough. They do not overlap, because
    // `used` only shrinks by the last block. Every other block is the standard allocator's, and its address shows that.
    unsafe impl GlobalAlloc for Bump {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            match ARENA.reserve(layout) {
                Some(block) => block,
                // SAFETY: the caller's promise about `layout`.
                None => unsafe { System.alloc(layout) },
            }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            match ARENA.offset(block) {
                None => {
                    // SAFETY: the block is not the arena's, so the standard allocator returned it with this layout.
                    unsafe { System.dealloc(block, layout) }
                }
                Some(offset) if offset + layout.size() == ARENA.used.get() => ARENA.used.set(offset),
                Some(_) => {}
            }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // The last block of the arena grows and shrinks in place: a string or vector that is being built is mostly
            // the last block.
            if let Some(offset) = ARENA.offset(block)
                && offset + layout.size() == ARENA.used.get()
                && let Some(end) = offset.checked_add(size).filter(|end| *end <= SIZE)
            {
                ARENA.used.set(end);
                return block;
            }
            if ARENA.offset(block).is_none() {
                // SAFETY: the standard allocator returned it, and the caller's promise about the sizes.
                return unsafe { System.realloc(block, layout, size) };
            }
            // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
            let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
            // SAFETY: as above; the new block does not overlap the old one, which is still in use.
            unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                }
                moved
            }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Bump = Bump;
}
