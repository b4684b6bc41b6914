//! Global memory of the emulated card: buffers far apart, so that no wrong offset lands in another one unnoticed.

use crate::store::Store;
use std::ops::Range;

/// Address bits below a buffer's number.
const BUFFER_BITS: u32 = 40;

/// Global memory. Buffers are never written to begin with, and reading them then is an error.
#[derive(Debug, Default)]
pub struct Memory {
    buffers: Vec<Option<Store>>,
    pub(crate) clock: u32,
}

/// Part of global memory that a launch may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its first address.
    pub address: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// Whether the kernel may write to it.
    pub writable: bool,
}

impl Memory {
    /// No buffers.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// Allocates, and gives the buffer's address, a multiple of 256.
    pub fn allocate(&mut self, bytes: usize) -> u64 {
        self.buffers.push(Some(Store::new(bytes)));
        (self.buffers.len() as u64) << BUFFER_BITS
    }

    /// Frees the buffer at an address that [`Memory::allocate`] gave; false where there is none.
    pub fn free(&mut self, address: u64) -> bool {
        let own = address & ((1 << BUFFER_BITS) - 1) == 0;
        let slot = usize::try_from(address >> BUFFER_BITS).ok().and_then(|n| self.buffers.get_mut(n.wrapping_sub(1)));
        own && slot.is_some_and(|slot| slot.take().is_some())
    }

    /// Copies in. `Err` holds what is wrong with the range.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), String> {
        let (store, range) = self.range(address, bytes.len())?;
        store.set(range.start, bytes);
        Ok(())
    }

    /// Copies out; bytes that nobody wrote are an error.
    pub fn read(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>, String> {
        let (store, range) = self.range(address, bytes)?;
        let never = |at| format!("byte {at} of the buffer at {address:#x} was never written");
        store.get(range).map(<[u8]>::to_vec).map_err(never)
    }

    /// Makes a range as good as never written, as a slot that is given to another value.
    pub fn forget(&mut self, address: u64, bytes: usize) -> Result<(), String> {
        let (store, range) = self.range(address, bytes)?;
        store.forget(range);
        Ok(())
    }

    fn range(&mut self, address: u64, bytes: usize) -> Result<(&mut Store, Range<usize>), String> {
        let outside = || format!("{bytes} bytes at {address:#x} are in no buffer");
        let (store, offset) = self.locate(address, bytes).ok_or_else(outside)?;
        Ok((store, offset..offset + bytes))
    }

    /// The buffer that holds all of a range, and the range's offset in it.
    pub(crate) fn locate(&mut self, address: u64, bytes: usize) -> Option<(&mut Store, usize)> {
        let number = usize::try_from(address >> BUFFER_BITS).ok()?.checked_sub(1)?;
        let offset = (address & ((1 << BUFFER_BITS) - 1)) as usize;
        let store = self.buffers.get_mut(number)?.as_mut()?;
        (offset.checked_add(bytes)? <= store.len()).then_some((store, offset))
    }
}
