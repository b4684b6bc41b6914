//! A kernel's launch as data: which kernel, how many blocks, which arguments. No driver, no address.
//!
//! Invariant: an argument that points somewhere names an operand, a result or the workspace, so whoever resolves it knows what
//! a launch may touch. Look next at `recipes` for who makes launches, at `device::program` for who resolves them.

/// One argument of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// Address of an operand, so many bytes behind its beginning.
    Read {
        /// Which operand.
        index: usize,
        /// Bytes.
        offset: usize,
    },
    /// Address of a result.
    Write {
        /// Which result.
        index: usize,
        /// Bytes.
        offset: usize,
    },
    /// Address of the workspace.
    Workspace,
    /// No address: an operand that there is not.
    Null,
    /// A size beyond 32 bits: no launch has one.
    TooLarge,
    /// Anything else, as its bytes.
    Bytes(Vec<u8>),
}

/// One launch.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The source file that the kernel is of, without its ending.
    pub module: &'static str,
    /// The kernel.
    pub kernel: String,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// In the kernel's order.
    pub arguments: Vec<Argument>,
    /// An operand and a result that the kernel copies the one to the other: it is left out where they are in one place.
    pub copies: Option<[usize; 2]>,
}

/// Threads of a block where nothing is shared between them.
pub const THREADS: u32 = 256;

impl Launch {
    /// A launch of one block, without arguments yet.
    pub fn of(module: &'static str, kernel: impl Into<String>) -> Self {
        let (kernel, arguments) = (kernel.into(), Vec::new());
        Launch { module, kernel, grid: [1; 3], threads: THREADS, shared_bytes: 0, arguments, copies: None }
    }

    /// A thread for each of so many elements.
    pub fn over(self, elements: usize) -> Self {
        Launch { grid: [blocks(elements, THREADS as usize), 1, 1], ..self }
    }

    /// Blocks and their threads.
    pub fn grid(self, grid: [u32; 3], threads: u32) -> Self {
        Launch { grid, threads, ..self }
    }

    /// A warp for each of so many rows, four a block.
    pub fn warps(self, rows: usize) -> Self {
        self.grid([blocks(rows, 4), 1, 1], 128)
    }

    /// With dynamic shared memory.
    pub fn shared(self, shared_bytes: usize) -> Self {
        Launch { shared_bytes: size(shared_bytes), ..self }
    }

    /// One more argument.
    pub fn with(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }

    /// The address of an operand.
    pub fn read(self, index: usize) -> Self {
        self.read_at(index, 0)
    }

    /// The address of an operand's byte.
    pub fn read_at(self, index: usize, offset: usize) -> Self {
        self.with(Argument::Read { index, offset })
    }

    /// The address of an operand, or none.
    pub fn maybe_read(self, index: Option<usize>) -> Self {
        self.with(index.map_or(Argument::Null, |index| Argument::Read { index, offset: 0 }))
    }

    /// The address of a result.
    pub fn write(self, index: usize) -> Self {
        self.write_at(index, 0)
    }

    /// The address of a result's byte.
    pub fn write_at(self, index: usize, offset: usize) -> Self {
        self.with(Argument::Write { index, offset })
    }

    /// The address of the workspace.
    pub fn workspace(self) -> Self {
        self.with(Argument::Workspace)
    }

    /// No address.
    pub fn null(self) -> Self {
        self.with(Argument::Null)
    }

    /// A size as `u32`; checked when it is loaded that it is one.
    pub fn u32(self, value: usize) -> Self {
        self.with(
            u32::try_from(value).map_or(Argument::TooLarge, |value| Argument::Bytes(value.to_le_bytes().to_vec())),
        )
    }

    /// A size as `u64`.
    pub fn u64(self, value: usize) -> Self {
        self.word(value as u64)
    }

    /// Eight bytes.
    pub fn word(self, value: u64) -> Self {
        self.with(Argument::Bytes(value.to_le_bytes().to_vec()))
    }

    /// Four bytes.
    pub fn word32(self, value: u32) -> Self {
        self.with(Argument::Bytes(value.to_le_bytes().to_vec()))
    }

    /// A flag as `u32`.
    pub fn flag(self, value: bool) -> Self {
        self.u32(usize::from(value))
    }

    /// An `int`.
    pub fn i32(self, value: i32) -> Self {
        self.with(Argument::Bytes(value.to_le_bytes().to_vec()))
    }

    /// A `float`.
    pub fn f32(self, value: f32) -> Self {
        self.with(Argument::Bytes(value.to_le_bytes().to_vec()))
    }

    /// A `double`.
    pub fn f64(self, value: f64) -> Self {
        self.with(Argument::Bytes(value.to_le_bytes().to_vec()))
    }
}

/// How many blocks of `per_block` hold so many. What is beyond a grid's limit is refused with the launch's other sizes.
pub fn blocks(elements: usize, per_block: usize) -> u32 {
    size(elements.div_ceil(per_block))
}

/// Sizes beyond `u32` saturate: [`fits`] refuses them.
fn size(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// What does not fit a launch, if anything: grids and 32-bit sizes have limits.
pub fn fits(launch: &Launch) -> Result<(), String> {
    let [x, y, z] = launch.grid;
    if x == 0 || y == 0 || z == 0 || x > i32::MAX as u32 || y > 65_535 || z > 65_535 {
        return Err(format!("{x} × {y} × {z} blocks are no grid; choose a smaller batch or sequence"));
    }
    if launch.arguments.contains(&Argument::TooLarge) || launch.shared_bytes == u32::MAX {
        return Err("a size beyond 2^32 elements; choose a smaller batch or sequence".to_string());
    }
    Ok(())
}
