//! `mma.sync` and `ldmatrix` by themselves, held to the fragment layouts that the PTX ISA documents ("Matrix Fragments for mma.m16n8k16
//! with floating point type", the same for m16n8k8, and "ldmatrix"), written down here a second time, and to products in f64.

use half::{bf16, f16};
use remat_ptx::{Launch, Memory, Module, Region};

/// Runs a kernel of one warp: lane l loads so many words of `input` from word l · words on into %r1…, runs `body` and stores
/// %r20 to %r23 at words 4 l on.
fn run(body: &str, words: usize, input: &[u32]) -> Vec<u32> {
    let loads: String = (0..words).map(|i| format!("ld.global.u32 %r{}, [%rd4+{}];\n", i + 1, 4 * i)).collect();
    let text = format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 i, .param .u64 o)\n{{\n\
         .reg .b32 %r<24>;\n.reg .b64 %rd<8>;\n.shared .align 16 .b8 tile[512];\n\
         ld.param.u64 %rd1, [i];\nld.param.u64 %rd2, [o];\nmov.u32 %r0, %tid.x;\n\
         mul.wide.u32 %rd3, %r0, {};\nadd.s64 %rd4, %rd1, %rd3;\nmul.wide.u32 %rd5, %r0, 16;\n\
         add.s64 %rd6, %rd2, %rd5;\n{loads}{body}\n\
         st.global.v4.u32 [%rd6], {{%r20,%r21,%r22,%r23}};\nret;\n}}\n",
        4 * words
    );
    let module = Module::read(&text).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new();
    let (from, to) = (memory.allocate(4 * input.len()), memory.allocate(512));
    let bytes: Vec<u8> = input.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(from, &bytes).expect("the buffer is there");
    let region = |address, bytes, writable| Region { address, bytes, writable };
    let launch = Launch {
        grid: [1; 3],
        block: [32, 1, 1],
        dynamic_shared_bytes: 0,
        arguments: &[&from.to_le_bytes(), &to.to_le_bytes()],
        regions: &[region(from, bytes.len() as u64, false), region(to, 512, true)],
        seed: 0,
        limit: 1000,
    };
    module.launch("k", &launch, &mut memory).unwrap_or_else(|error| panic!("{error}"));
    let bytes = memory.read(to, 512).expect("all of it was written");
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// Numbers in [-1, 1), another for every index.
fn value(index: usize) -> f32 {
    let mixed = (index as u32).wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
    (mixed.wrapping_mul(0x85eb_ca6b) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

/// Where element i of a lane's fragment of A is, as the tables say: row and column.
fn of_a(lane: usize, i: usize) -> (usize, usize) {
    let (group, within) = (lane >> 2, lane % 4);
    let row = if matches!(i, 0 | 1 | 4 | 5) { group } else { group + 8 };
    (row, within * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
}

fn of_b(lane: usize, i: usize) -> (usize, usize) {
    let (group, within) = (lane >> 2, lane % 4);
    (within * 2 + (i & 1) + if i < 2 { 0 } else { 8 }, group)
}

fn of_c(lane: usize, i: usize) -> (usize, usize) {
    let (group, within) = (lane >> 2, lane % 4);
    (if i < 2 { group } else { group + 8 }, within * 2 + (i & 1))
}

fn check_product(k: usize, narrow: &str, round: impl Fn(f32) -> (u16, f64)) {
    let a = |row: usize, column: usize| round(value(row * k + column));
    let b = |row: usize, column: usize| round(value(1000 + row * 8 + column));
    let c = |row: usize, column: usize| value(2000 + row * 8 + column);
    let pair = |low: (u16, f64), high: (u16, f64)| u32::from(low.0) | u32::from(high.0) << 16;
    let mut input = Vec::new();
    for lane in 0..32 {
        let a_at = |i| a(of_a(lane, i).0, of_a(lane, i).1);
        let b_at = |i| b(of_b(lane, i).0, of_b(lane, i).1);
        input.extend((0..k / 4).map(|r| pair(a_at(2 * r), a_at(2 * r + 1))));
        input.extend((0..k / 8).map(|r| pair(b_at(2 * r), b_at(2 * r + 1))));
        input.extend((0..4).map(|i| c(of_c(lane, i).0, of_c(lane, i).1).to_bits()));
    }
    let names =
        |from: usize, count: usize| (from..from + count).map(|i| format!("%r{i}")).collect::<Vec<_>>().join(",");
    let (na, nb) = (k / 4, k / 8);
    let body = format!(
        "mma.sync.aligned.m16n8k{k}.row.col.f32.{narrow}.{narrow}.f32 {{%r20,%r21,%r22,%r23}}, {{{}}}, {{{}}}, {{{}}};",
        names(1, na),
        names(1 + na, nb),
        names(1 + na + nb, 4)
    );
    let found = run(&body, na + nb + 4, &input);
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = of_c(lane, i);
            let sum: f64 = (0..k).map(|t| a(row, t).1 * b(t, column).1).sum();
            let want = (sum + f64::from(c(row, column))) as f32;
            let got = f32::from_bits(found[4 * lane + i]);
            // Sums in f64 may differ in their last place by the order of terms.
            assert!((got - want).abs() <= 1e-6, "k {k} of {narrow}: [{row}, {column}] is {got}, not {want}");
        }
    }
}

#[test]
fn products_are_those_of_the_documented_fragments() {
    for k in [8, 16] {
        check_product(k, "bf16", |x| (bf16::from_f32(x).to_bits(), f64::from(bf16::from_f32(x).to_f32())));
        check_product(k, "f16", |x| (f16::from_f32(x).to_bits(), f64::from(f16::from_f32(x).to_f32())));
    }
}

#[test]
fn matrices_are_loaded_as_documented() {
    // Row r of matrix i is the words 4 (8 i + r) to + 3: lane 8 i + r writes it, and names its address.
    let input: Vec<u32> = (0..128).map(|word| (2 * word) | (2 * word + 1) << 16).collect();
    let put = "shl.b32 %r5, %r0, 4;\nmov.u32 %r6, tile;\nadd.s32 %r5, %r5, %r6;\n\
               st.shared.v4.u32 [%r5], {%r1,%r2,%r3,%r4};\nbar.sync 0;\n";
    let element = |matrix: usize, row: usize, column: usize| (64 * matrix + 8 * row + column) as u32;
    for transposed in [false, true] {
        let hint = if transposed { ".trans" } else { "" };
        let load = format!("ldmatrix.sync.aligned.m8n8.x4{hint}.shared.b16 {{%r20,%r21,%r22,%r23}}, [%r5];");
        let found = run(&format!("{put}{load}"), 4, &input);
        for lane in 0..32 {
            for matrix in 0..4 {
                // A thread holds two neighbours of a row, of the transposed matrix where it is one.
                let (row, column) = (lane / 4, 2 * (lane % 4));
                let pair = |at: usize| if transposed { element(matrix, at, row) } else { element(matrix, row, at) };
                assert_eq!(found[4 * lane + matrix], pair(column) | pair(column + 1) << 16, "lane {lane} {hint}");
            }
        }
    }
}
