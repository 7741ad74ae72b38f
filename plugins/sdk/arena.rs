//! The allocator of guests: a bump arena in `.bss`, then the standard one.
//!
//! The standard allocator of `wasm32-unknown-unknown` begins with `memory.grow`, which costs the host an
//! `mprotect` for each fresh instance, and a TLB shootdown where threads share the process: measured, it
//! takes seven times as long for a small plugin. Memory in `.bss` is there already. A call rarely needs
//! more than the arena; what does not fit goes to the standard allocator. Blocks are given back only when
//! they are the last one: an instance lives for one call.

#[cfg(target_family = "wasm")]
#[expect(unsafe_code, reason = "an allocator cannot be written without; this is the SDK's only hand-written unsafe")]
mod bump {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::{Cell, UnsafeCell};

    /// Enough for a question of a few objects and its parsed form. Untouched pages cost nothing.
    const SIZE: usize = 256 * 1024;

    /// No more than `align` of any type that the arena serves; larger ones are aligned by hand.
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

        /// Offset of a block that the arena gave out.
        fn offset(&self, block: *mut u8) -> Option<usize> {
            (block as usize).checked_sub(self.base() as usize).filter(|offset| *offset < SIZE)
        }

        /// Reserves `layout` behind what is used; `None` where it does not fit.
        fn reserve(&self, layout: Layout) -> Option<*mut u8> {
            let base = self.base() as usize;
            let start = (base + self.used.get()).checked_next_multiple_of(layout.align())? - base;
            let end = start.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
            self.used.set(end);
            Some(self.base().wrapping_add(start))
        }
    }

    // SAFETY: `reserve` gives out blocks inside the arena that are aligned, large enough and, as `used`
    // only shrinks over the last block, apart from every other live one. Everything else is the standard
    // allocator's, and is told from the arena's by its address.
    unsafe impl GlobalAlloc for Bump {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            match ARENA.reserve(layout) {
                Some(block) => block,
                // SAFETY: the caller's own promise about `layout`.
                None => unsafe { System.alloc(layout) },
            }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            match ARENA.offset(block) {
                None => {
                    // SAFETY: not ours, so the standard allocator gave it out with this layout.
                    unsafe { System.dealloc(block, layout) }
                }
                Some(offset) if offset + layout.size() == ARENA.used.get() => ARENA.used.set(offset),
                Some(_) => {}
            }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            // The last block of the arena grows and shrinks where it stands: strings and vectors that
            // are being built are mostly the last one.
            if let Some(offset) = ARENA.offset(block)
                && offset + layout.size() == ARENA.used.get()
                && let Some(end) = offset.checked_add(size).filter(|end| *end <= SIZE)
            {
                ARENA.used.set(end);
                return block;
            }
            if ARENA.offset(block).is_none() {
                // SAFETY: the standard allocator gave it out; the caller's own promise about the sizes.
                return unsafe { System.realloc(block, layout, size) };
            }
            // SAFETY: the caller promises that `size`, rounded up to the alignment, does not overflow.
            let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
            // SAFETY: as above; the new block does not overlap the old one, which is still live.
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
