//! FlatBuffers, as far as Arrow's messages need them: tables whose fields are found through a list of offsets. Invariant:
//! nothing is read outside of the bytes; whatever does not fit is `None`. Look next at `arrow`.

/// A table within bytes.
#[derive(Clone, Copy)]
pub(super) struct FlatTable<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> FlatTable<'a> {
    /// The table that a buffer begins with a reference to.
    pub(super) fn root(bytes: &'a [u8]) -> Option<Self> {
        follow(bytes, 0).map(|at| FlatTable { bytes, at })
    }

    /// Where a field stands; `None` if it has its default.
    fn field(&self, number: usize) -> Option<usize> {
        let back = i32::from_le_bytes(chunk(self.bytes, self.at)?);
        let list = usize::try_from(i64::try_from(self.at).ok()? - i64::from(back)).ok()?;
        let size = usize::from(u16::from_le_bytes(chunk(self.bytes, list)?));
        let entry = 4 + 2 * number;
        if entry + 2 > size {
            return None;
        }
        let offset = usize::from(u16::from_le_bytes(chunk(self.bytes, list + entry)?));
        (offset > 0).then_some(self.at + offset)
    }

    pub(super) fn u8(&self, number: usize) -> Option<u8> {
        self.bytes.get(self.field(number)?).copied()
    }

    pub(super) fn i16(&self, number: usize) -> Option<i16> {
        Some(i16::from_le_bytes(chunk(self.bytes, self.field(number)?)?))
    }

    pub(super) fn i32(&self, number: usize) -> Option<i32> {
        Some(i32::from_le_bytes(chunk(self.bytes, self.field(number)?)?))
    }

    pub(super) fn i64(&self, number: usize) -> Option<i64> {
        Some(i64::from_le_bytes(chunk(self.bytes, self.field(number)?)?))
    }

    pub(super) fn table(&self, number: usize) -> Option<FlatTable<'a>> {
        follow(self.bytes, self.field(number)?).map(|at| FlatTable { bytes: self.bytes, at })
    }

    pub(super) fn text(&self, number: usize) -> Option<&'a str> {
        let (start, len) = self.list(number)?;
        std::str::from_utf8(self.bytes.get(start..start.checked_add(len)?)?).ok()
    }

    /// A list of tables.
    pub(super) fn tables(&self, number: usize) -> Option<Vec<FlatTable<'a>>> {
        let Some((start, len)) = self.list(number) else { return Some(Vec::new()) };
        if len > self.bytes.len() / 4 {
            return None;
        }
        (0..len)
            .map(|index| Some(FlatTable { bytes: self.bytes, at: follow(self.bytes, start + 4 * index)? }))
            .collect()
    }

    /// A list of structs of two 64-bit numbers.
    pub(super) fn pairs(&self, number: usize) -> Option<Vec<(i64, i64)>> {
        let Some((start, len)) = self.list(number) else { return Some(Vec::new()) };
        let bytes = self.bytes.get(start..start.checked_add(len.checked_mul(16)?)?)?;
        let number = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        Some(bytes.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..]))).collect())
    }

    /// Where a list's elements begin, and how many there are.
    fn list(&self, number: usize) -> Option<(usize, usize)> {
        let at = follow(self.bytes, self.field(number)?)?;
        Some((at + 4, u32::from_le_bytes(chunk(self.bytes, at)?) as usize))
    }
}

/// The place that a reference at `at` leads to.
fn follow(bytes: &[u8], at: usize) -> Option<usize> {
    let to = at.checked_add(u32::from_le_bytes(chunk(bytes, at)?) as usize)?;
    (to < bytes.len()).then_some(to)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}
