//! Each strictness is shown by a wrong kernel that it catches, and by its right twin that passes.

use remat_ptx::{Fault, Launch, Memory, Module, PtxError, Ran, Region};

/// Runs a body over one buffer of 1,024 bytes, the first half written, with `threads` threads and so many blocks.
fn run(body: &str, threads: u32, blocks: u32, seed: u64) -> Result<Ran, PtxError> {
    let text = format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 k_param_0)\n{{\n\
         .reg .pred %p<4>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<16>;\n.reg .f32 %f<8>;\n\
         .shared .align 16 .b8 tile[1024];\n\
         ld.param.u64 %rd1, [k_param_0];\nmov.u32 %r1, %tid.x;\nshl.b32 %r2, %r1, 2;\nmov.u32 %r3, tile;\n\
         add.s32 %r4, %r3, %r2;\nmul.wide.u32 %rd2, %r1, 4;\nadd.s64 %rd3, %rd1, %rd2;\n{body}\nret;\n}}\n"
    );
    let module = Module::read(&text)?;
    let mut memory = Memory::new();
    let address = memory.allocate(1024);
    memory.write(address, &[1; 512]).expect("the buffer is there");
    let launch = Launch {
        grid: [blocks, 1, 1],
        block: [threads, 1, 1],
        dynamic_shared_bytes: 0,
        arguments: &[&address.to_le_bytes()],
        regions: &[Region { address, bytes: 768, writable: true }],
        seed,
        limit: 10_000,
    };
    module.launch("k", &launch, &mut memory)
}

fn fault(body: &str, threads: u32, blocks: u32) -> Fault {
    let seen: Vec<_> = (0..8)
        .map(|seed| match run(body, threads, blocks, seed) {
            Err(PtxError::Run { fault, line, kernel, .. }) => {
                assert!(line > 11 && kernel == "k", "line {line} of {kernel}");
                fault
            }
            other => panic!("seed {seed}: {other:?} from\n{body}"),
        })
        .collect();
    seen[0].clone()
}

fn passes(body: &str, threads: u32, blocks: u32) {
    for seed in 0..8 {
        run(body, threads, blocks, seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

const WRITE_THEN_BARRIER: &str = "st.shared.u32 [%r4], %r1;\nbar.sync 0;\n";
/// Address of the element of the thread 32 on, of 64.
const NEIGHBOUR: &str = "add.s32 %r5, %r1, 32;\nand.b32 %r5, %r5, 63;\nshl.b32 %r5, %r5, 2;\nadd.s32 %r5, %r3, %r5;\n";

#[test]
fn a_race_in_shared_memory() {
    let read = "ld.shared.u32 %r6, [%r5];";
    passes(&format!("{NEIGHBOUR}{WRITE_THEN_BARRIER}{read}"), 64, 1);
    let wrong = format!("{NEIGHBOUR}st.shared.u32 [%r4], 0;\nbar.sync 0;\nst.shared.u32 [%r4], %r1;\n{read}");
    assert!(matches!(fault(&wrong, 64, 1), Fault::Race { space: "shared", .. }));
    // Read by others, then written without a barrier.
    let wrong = format!("{NEIGHBOUR}{WRITE_THEN_BARRIER}{read}\nst.shared.u32 [%r4], %r1;");
    assert!(matches!(fault(&wrong, 64, 1), Fault::Race { space: "shared", .. }));
    // One word for all lanes.
    assert!(matches!(fault("st.shared.u32 [tile], %r1;", 32, 1), Fault::Race { .. }));
}

#[test]
fn lanes_of_one_warp_need_a_synchronisation_too() {
    let next = "xor.b32 %r5, %r1, 1;\nshl.b32 %r5, %r5, 2;\nadd.s32 %r5, %r3, %r5;\nst.shared.u32 [%r4], %r1;\n";
    passes(&format!("{next}bar.warp.sync -1;\nld.shared.u32 %r6, [%r5];"), 32, 1);
    assert!(matches!(fault(&format!("{next}ld.shared.u32 %r6, [%r5];"), 32, 1), Fault::Race { .. }));
}

#[test]
fn a_race_of_blocks_in_global_memory() {
    passes("ld.global.u32 %r6, [%rd3];", 32, 3);
    passes("st.global.u32 [%rd3], %r1;", 32, 1);
    assert!(matches!(fault("st.global.u32 [%rd3], %r1;", 32, 2), Fault::Race { space: "global", .. }));
    let read_all_write_one = "ld.global.u32 %r6, [%rd3];\nmov.u32 %r7, %ctaid.x;\nsetp.ne.u32 %p1, %r7, 2;\n\
                              @%p1 ret;\nst.global.u32 [%rd3], %r1;";
    assert!(matches!(fault(read_all_write_one, 32, 4), Fault::Race { .. }));
    // Atomics on integers are ordered.
    passes("atom.global.add.u32 %r6, [%rd1], 1;", 64, 3);
    assert!(matches!(
        fault("atom.global.add.u32 %r6, [%rd1], 1;\nld.global.u32 %r7, [%rd1];", 64, 1),
        Fault::Race { .. }
    ));
}

#[test]
fn memory_that_was_never_written() {
    assert_eq!(fault("ld.shared.u32 %r6, [tile+8];", 1, 1), Fault::Uninitialised { space: "shared", address: 8 });
    assert!(matches!(fault("ld.global.u32 %r6, [%rd1+512];", 1, 1), Fault::Uninitialised { space: "global", .. }));
    passes("ld.global.u32 %r6, [%rd1+508];", 1, 1);
}

#[test]
fn addresses_outside_the_launch_and_misaligned() {
    // The buffer has 1,024 bytes, the launch was given 768.
    assert!(matches!(fault("st.global.u32 [%rd1+768], %r1;", 1, 1), Fault::OutOfBounds { space: "global", .. }));
    assert!(matches!(fault("st.global.u32 [%rd1-4], %r1;", 1, 1), Fault::OutOfBounds { .. }));
    assert!(matches!(fault("st.shared.u32 [tile+1024], %r1;", 1, 1), Fault::OutOfBounds { space: "shared", .. }));
    passes("st.global.u32 [%rd1+764], %r1;\nst.shared.u32 [tile+1020], %r1;", 1, 1);
    assert!(matches!(fault("ld.global.u32 %r6, [%rd1+2];", 1, 1), Fault::Misaligned { bytes: 4, .. }));
    assert!(matches!(
        fault("ld.global.v4.u32 {%r6,%r7,%r8,%r9}, [%rd1+8];", 1, 1),
        Fault::Misaligned { bytes: 16, .. }
    ));
}

#[test]
fn barriers_that_not_all_reach() {
    let half = "setp.lt.u32 %p1, %r1, 16;\n@%p1 bra SKIP;\nbar.sync 0;\nSKIP:";
    assert!(matches!(fault(half, 32, 1), Fault::Divergent { operation: "a barrier", .. }));
    let warp = "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra SKIP;\nbar.sync 0;\nSKIP:";
    assert_eq!(fault(warp, 64, 1), Fault::BarrierNotReached);
    // Lanes that have parted meet again before the barrier.
    passes("setp.lt.u32 %p1, %r1, 16;\n@%p1 bra SKIP;\nadd.s32 %r6, %r1, 1;\nSKIP:\nbar.sync 0;", 64, 1);
    let shuffle = "@%p1 bra SKIP;\nshfl.sync.bfly.b32 %r6, %r1, 1, 31, -1;\nSKIP:";
    let shuffle = format!("setp.lt.u32 %p1, %r1, 16;\n{shuffle}");
    assert!(matches!(fault(&shuffle, 32, 1), Fault::Divergent { operation: "shfl.sync", .. }));
}

#[test]
fn asynchronous_copies_are_poison_until_waited_for() {
    let copy = "mul.wide.u32 %rd4, %r1, 16;\nadd.s64 %rd5, %rd1, %rd4;\nshl.b32 %r5, %r1, 4;\nadd.s32 %r5, %r3, %r5;\n\
                cp.async.cg.shared.global [%r5], [%rd5], 16;\ncp.async.commit_group;\n";
    let read = "ld.shared.u32 %r6, [%r5];";
    passes(&format!("{copy}cp.async.wait_group 0;\n{read}"), 32, 1);
    assert!(matches!(fault(&format!("{copy}{read}"), 32, 1), Fault::CopyPending { .. }));
    assert!(matches!(fault(&format!("{copy}cp.async.wait_group 1;\n{read}"), 32, 1), Fault::CopyPending { .. }));
    assert_eq!(fault(copy, 32, 1), Fault::CopyAbandoned);
    // What another thread has copied needs a barrier, too.
    let other = "xor.b32 %r7, %r5, 16;\nld.shared.u32 %r6, [%r7];";
    passes(&format!("{copy}cp.async.wait_all;\nbar.sync 0;\n{other}"), 32, 1);
    assert!(matches!(fault(&format!("{copy}cp.async.wait_all;\n{other}"), 32, 1), Fault::Race { .. }));
}

#[test]
fn endless_loops_traps_and_divisions_by_zero() {
    assert_eq!(fault("AGAIN:\nbra AGAIN;", 1, 1), Fault::TooLong { limit: 10_000 });
    assert_eq!(fault("trap;", 1, 1), Fault::Trap);
    assert_eq!(fault("div.u32 %r6, 7, %r1;", 32, 1), Fault::DivisionByZero);
}

#[test]
fn what_is_not_known_is_refused_with_its_line() {
    for (body, word) in [
        ("frobnicate.b32 %r6, %r1;", "frobnicate"),
        ("add.sat.s32 %r6, %r1, 1;", "add.sat.s32"),
        ("fma.rn.ftz.f32 %f1, %f1, %f1, %f1;", "fma.rn.ftz.f32"),
        ("ld.global.acquire.u32 %r6, [%rd1];", "acquire"),
        ("atom.global.add.f32 %f1, [%rd1], %f2;", "order of threads"),
        ("mov.u32 %r6, %nowhere;", "%nowhere"),
        ("bra NOWHERE;", "NOWHERE"),
        ("cvt.f32.s32 %f1, %r1;", "cvt.f32.s32"),
    ] {
        match run(body, 1, 1, 0) {
            Err(PtxError::Read { line, problem }) => {
                assert_eq!(line, 18, "{problem}");
                assert!(problem.contains(word), "{problem}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[test]
fn bank_conflicts_are_counted() {
    let conflicts = |body: &str| run(body, 32, 1, 0).expect("runs").bank_conflicts;
    let fill = "shl.b32 %r5, %r1, 4;\nadd.s32 %r5, %r3, %r5;\nst.shared.v4.u32 [%r5], {%r1,%r1,%r1,%r1};\n\
                st.shared.v4.u32 [%r5+512], {%r1,%r1,%r1,%r1};\nbar.sync 0;\n";
    let matrix = "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r8}, [%r6];";
    assert_eq!(conflicts(fill), 0, "neighbours");
    // Eight rows one behind the other; 128 bytes apart; the same mixed with the row's number.
    assert_eq!(
        conflicts(&format!("{fill}and.b32 %r6, %r1, 7;\nshl.b32 %r6, %r6, 4;\nadd.s32 %r6, %r3, %r6;\n{matrix}")),
        0
    );
    let apart = "and.b32 %r7, %r1, 7;\nshl.b32 %r6, %r7, 7;\nadd.s32 %r6, %r3, %r6;\n";
    assert_eq!(conflicts(&format!("{fill}{apart}{matrix}")), 7);
    let mixed = "shl.b32 %r7, %r7, 4;\nadd.s32 %r6, %r6, %r7;\n";
    assert_eq!(conflicts(&format!("{fill}{apart}{mixed}{matrix}")), 0);
    // One address for all is one pass; two in the same banks are two, in each of four groups of lanes.
    assert_eq!(conflicts(&format!("{fill}ld.shared.v4.u32 {{%r8,%r9,%r10,%r11}}, [tile];")), 0);
    let two = "and.b32 %r6, %r1, 1;\nshl.b32 %r6, %r6, 7;\nadd.s32 %r6, %r3, %r6;\n";
    assert_eq!(conflicts(&format!("{fill}{two}ld.shared.v4.u32 {{%r8,%r9,%r10,%r11}}, [%r6];")), 4);
}
