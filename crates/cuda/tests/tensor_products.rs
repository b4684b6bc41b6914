//! Products on tensor cores, kernel by kernel: every tile gives the same bits, near products in f64, whatever the sizes; sums over
//! tokens may be split; no access of shared memory conflicts with another.

use half::bf16;
use remat_cuda::archive::Archive;
use remat_ptx::{Launch, Memory, Module, Ran, Region};

/// Name, side and threads of a block.
const TILES: [(&str, u32, u32); 3] = [("wide", 128, 256), ("middle", 64, 128), ("narrow", 32, 128)];
/// Three buffers of each factor, 32 terms of two bytes.
const BYTES_OF_SIDE: u32 = 2 * 3 * 32 * 2;

fn module(name: &str) -> Module {
    let text = Archive::embedded().and_then(|archive| archive.text(name)).expect("a module");
    Module::read(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Numbers in [-1, 1), another for every index, that bf16 holds.
fn value(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    bf16::from_f32((mixed.wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0).to_f32()
}

fn narrow(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()
}

#[derive(Default)]
struct Card {
    memory: Memory,
    regions: Vec<Region>,
}

impl Card {
    fn buffer(&mut self, bytes: usize, writable: bool) -> Vec<u8> {
        let address = self.memory.allocate(bytes);
        self.regions.push(Region { address, bytes: bytes as u64, writable });
        address.to_le_bytes().to_vec()
    }

    fn input(&mut self, bytes: &[u8]) -> Vec<u8> {
        let buffer = self.buffer(bytes.len(), false);
        self.memory.write(address(&buffer), bytes).expect("the buffer is there");
        buffer
    }

    fn read(&mut self, buffer: &[u8], bytes: usize) -> Vec<u8> {
        self.memory.read(address(buffer), bytes).expect("all of it was written")
    }

    fn launch(
        &mut self,
        module: &Module,
        stem: &str,
        tile: (&str, u32, u32),
        size: [usize; 2],
        args: &[Vec<u8>],
    ) -> Ran {
        let (name, side, threads) = tile;
        let arguments: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let launch = Launch {
            grid: [(size[0] as u32).div_ceil(side), (size[1] as u32).div_ceil(side), 1],
            block: [threads, 1, 1],
            dynamic_shared_bytes: side * BYTES_OF_SIDE,
            arguments: &arguments,
            regions: &self.regions,
            seed: side.into(),
            limit: 1 << 22,
        };
        let ran = module.launch(&format!("{stem}_{name}"), &launch, &mut self.memory);
        ran.unwrap_or_else(|error| panic!("{error}"))
    }
}

fn address(buffer: &[u8]) -> u64 {
    u64::from_le_bytes(buffer.try_into().expect("eight bytes"))
}

fn size(value: usize) -> Vec<u8> {
    (value as u32).to_le_bytes().to_vec()
}

fn long(value: usize) -> Vec<u8> {
    (value as u64).to_le_bytes().to_vec()
}

fn float(value: f32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// A weight of `n` outputs and `k` inputs as a kernel has it.
struct Weight {
    /// Behind the kernel's name.
    format: &'static str,
    bytes: Vec<u8>,
    /// Where its parts lie, as arguments.
    parts: Vec<Vec<u8>>,
    /// Elements, in order of storage.
    elements: Vec<f32>,
}

fn dense(count: usize) -> Weight {
    let elements: Vec<f32> = (0..count).map(|i| value(7000 + i)).collect();
    Weight { format: "", bytes: narrow(&elements), parts: Vec::new(), elements }
}

fn rounded(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// Codes of four bits, a scale for each 64, and the 16 numbers that codes stand for; nested: scales of 8 bits.
fn nf4(count: usize, nested: bool) -> Weight {
    let map: Vec<f32> = (0..16).map(|code| (code as f32 - 7.3) / 8.0).collect();
    let nested_map: Vec<f32> = (0..256).map(|code| (code as f32 - 100.0) / 177.0).collect();
    let codes: Vec<u8> = (0..count.div_ceil(2)).map(|i| (i * 37 + i / 5) as u8).collect();
    let (blocks, floats) =
        (count.div_ceil(64), |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() });
    let (outer, offset) = (1.75f32, 0.31f32);
    let code_of = |block: usize| (block * 91 + 13) as u8;
    let scale = |block: usize| match nested {
        true => nested_map[usize::from(code_of(block))] * outer + offset,
        false => 0.1 + 0.07 * (block % 9) as f32,
    };
    let mut bytes = codes.clone();
    let mut parts = Vec::new();
    let mut put = |part: Vec<u8>| {
        parts.push(long(bytes.len()));
        bytes.extend(part);
    };
    if nested {
        put((0..blocks).map(code_of).collect());
        put(floats(&vec![outer; blocks.div_ceil(256)]));
        put(floats(&nested_map));
        put(floats(&[offset]));
    } else {
        put(floats(&(0..blocks).map(scale).collect::<Vec<_>>()));
    }
    put(floats(&map));
    let code = |i: usize| usize::from(if i.is_multiple_of(2) { codes[i / 2] >> 4 } else { codes[i / 2] & 15 });
    let elements = (0..count).map(|i| rounded(map[code(i)] * scale(i / 64))).collect();
    Weight { format: if nested { "_nf4nested" } else { "_nf4" }, bytes, parts, elements }
}

/// Codes of eight bits, a scale for each row of `width`.
fn int8(count: usize, width: usize) -> Weight {
    let scale = |row: usize| 0.2 + 0.05 * (row % 7) as f32;
    let codes: Vec<i8> = (0..count).map(|i| (i * 53 + i / 3) as i8).collect();
    let mut bytes: Vec<u8> = codes.iter().map(|&code| code as u8).collect();
    let parts = vec![long(bytes.len()), size(width)];
    bytes.extend((0..count / width).flat_map(|row| scale(row).to_le_bytes()));
    let elements = (0..count).map(|i| rounded(f32::from(codes[i]) * scale(i / width) * (1.0 / 127.0))).collect();
    Weight { format: "_int8", bytes, parts, elements }
}

/// y = residual + 0.5 · x·W + bias + 2 · u·B for a weight whose element (i, o) is at i · strides[0] + o · strides[1].
fn linear(module: &Module, weight: &Weight, [m, n, k, rank]: [usize; 4], strides: [usize; 2]) {
    let series = |from: usize, count: usize| (from..from + count).map(value).collect::<Vec<f32>>();
    let (x, residual, bias) = (series(0, m * k), series(100, m * n), series(200, n));
    let (u, v) = (series(300, m * rank), series(400, rank * n));
    let mut first: Option<Vec<u8>> = None;
    for tile in TILES {
        let mut card = Card::default();
        let buffers: Vec<Vec<u8>> = [&x, &residual, &bias, &u, &v].map(|values| card.input(&narrow(values))).to_vec();
        let (w, y) = (card.input(&weight.bytes), card.buffer(2 * m * n, true));
        let mut args = vec![buffers[0].clone(), y.clone()];
        args.extend_from_slice(&buffers[1..]);
        args.extend([strides[0], strides[1], n, 1].map(long));
        args.extend([m, n, k, rank].map(size));
        args.extend([float(0.5), float(2.0), w]);
        args.extend_from_slice(&weight.parts);
        let ran = card.launch(module, &format!("linear_bf16{}", weight.format), tile, [m, n], &args);
        let whole = [k, n, strides[0].max(strides[1])].iter().all(|size| size % 8 == 0);
        assert!(!whole || ran.bank_conflicts == 0, "{tile:?}{}: {} conflicts", weight.format, ran.bank_conflicts);
        let bytes = card.read(&y, 2 * m * n);
        assert!(first.get_or_insert_with(|| bytes.clone()) == &bytes, "{tile:?} of {} has other bits", weight.format);
    }
    let found = first.expect("there are tiles");
    for (at, pair) in found.chunks_exact(2).enumerate() {
        let (row, column) = (at / n, at % n);
        let w = |i: usize| weight.elements[i * strides[0] + column * strides[1]];
        let product: f64 = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w(i))).sum();
        let low: f64 = (0..rank).map(|r| f64::from(u[row * rank + r]) * f64::from(v[r * n + column])).sum();
        let want = f64::from(residual[at]) + 0.5 * product + f64::from(bias[column]) + 2.0 * low;
        let got = f64::from(bf16::from_le_bytes([pair[0], pair[1]]).to_f32());
        assert!(
            (got - want).abs() <= want.abs() / 256.0 + 1e-4,
            "{} [{row}, {column}]: {got}, not {want}",
            weight.format
        );
    }
}

#[test]
fn linears_have_the_same_bits_in_every_tile_and_no_bank_conflicts() {
    let module = module("linear_bf16");
    for [m, n, k, rank] in [[130, 72, 40, 8], [37, 41, 35, 5]] {
        for strides in [[1, k], [n, 1]] {
            let width = strides[0].max(strides[1]);
            for weight in [dense(n * k), nf4(n * k, false), nf4(n * k, true), int8(n * k, width)] {
                linear(&module, &weight, [m, n, k, rank], strides);
            }
        }
    }
}

/// c (+)= 0.5 · aᵀ·b over tokens `from` to `to`.
fn add_gradient(
    card: &mut Card,
    module: &Module,
    tile: (&str, u32, u32),
    operands: &[Vec<u8>; 3],
    size_of: [usize; 4],
) -> Ran {
    let [m, n, from, to] = size_of;
    let row = |buffer: &[u8], width: usize| (address(buffer) + (2 * from * width) as u64).to_le_bytes().to_vec();
    let mut args = vec![row(&operands[0], m), row(&operands[1], n), operands[2].clone()];
    args.extend([m, n, to - from, usize::from(from > 0)].map(size));
    args.push(float(0.5));
    card.launch(module, "linear_dw_bf16", tile, [m, n], &args)
}

#[test]
fn gradients_of_weights_have_the_same_bits_when_tokens_are_split() {
    let module = module("linear_dw_bf16");
    for [m, n, tokens] in [[72, 136, 150], [35, 41, 90]] {
        let series = |from: usize, count: usize| (from..from + count).map(value).collect::<Vec<f32>>();
        let (a, b) = (series(0, tokens * m), series(500, tokens * n));
        let mut all = Vec::new();
        for tile in TILES {
            for cuts in [vec![0, tokens], vec![0, 64, tokens]] {
                let mut card = Card::default();
                let operands = [card.input(&narrow(&a)), card.input(&narrow(&b)), card.buffer(4 * m * n, true)];
                for pair in cuts.windows(2) {
                    let ran = add_gradient(&mut card, &module, tile, &operands, [m, n, pair[0], pair[1]]);
                    assert!(m % 8 + n % 8 > 0 || ran.bank_conflicts == 0, "{tile:?}: {} conflicts", ran.bank_conflicts);
                }
                all.push(card.read(&operands[2], 4 * m * n));
            }
        }
        assert!(all.iter().all(|bytes| *bytes == all[0]), "bits depend on the tile or on the split");
        for (at, four) in all[0].chunks_exact(4).enumerate() {
            let (row, column) = (at / n, at % n);
            let terms = (0..tokens).map(|t| f64::from(a[t * m + row]) * f64::from(b[t * n + column]));
            let want = 0.5 * terms.sum::<f64>();
            let got = f64::from(f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            assert!((got - want).abs() <= 1e-4, "[{row}, {column}]: {got}, not {want}");
        }
    }
}
