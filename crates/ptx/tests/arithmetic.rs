//! Instructions of one lane, held to results computed by hand from the PTX ISA's descriptions.

use remat_ptx::{Launch, Memory, Module, Region};

/// Result of one instruction: operands %r1 = a, %r2 = b, %r3 = c; %r0 (or what `body` moves there) is the answer.
fn result(body: &str, [a, b, c]: [u32; 3]) -> u32 {
    let text = format!(
        ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 o, .param .u32 a, .param .u32 b, \
         .param .u32 c)\n{{\n.reg .pred %p<4>;\n.reg .b16 %h<4>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<4>;\n\
         ld.param.u64 %rd1, [o];\nld.param.u32 %r1, [a];\nld.param.u32 %r2, [b];\nld.param.u32 %r3, [c];\n{body}\n\
         st.global.u32 [%rd1], %r0;\nret;\n}}\n"
    );
    let module = Module::read(&text).unwrap_or_else(|error| panic!("{body}: {error}"));
    let mut memory = Memory::new();
    let address = memory.allocate(4);
    let launch = Launch {
        grid: [1; 3],
        block: [1; 3],
        dynamic_shared_bytes: 0,
        arguments: &[&address.to_le_bytes(), &a.to_le_bytes(), &b.to_le_bytes(), &c.to_le_bytes()],
        regions: &[Region { address, bytes: 4, writable: true }],
        seed: 0,
        limit: 100,
    };
    module.launch("k", &launch, &mut memory).unwrap_or_else(|error| panic!("{body}: {error}"));
    let bytes = memory.read(address, 4).expect("the answer was written");
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn check(cases: &[(&str, [u32; 3], u32)]) {
    for &(body, operands, want) in cases {
        let found = result(body, operands);
        assert_eq!(found, want, "{body} of {operands:x?}: {found:#x}, not {want:#x}");
    }
}

#[test]
fn integers() {
    check(&[
        ("add.s32 %r0, %r1, %r2;", [u32::MAX, 2, 0], 1),
        ("mul.hi.u32 %r0, %r1, %r2;", [1 << 31, 6, 0], 3),
        ("mul.hi.s32 %r0, %r1, %r2;", [u32::MAX, 6, 0], u32::MAX),
        ("mad.lo.s32 %r0, %r1, %r2, %r3;", [3, 5, 7], 22),
        ("shr.s32 %r0, %r1, %r2;", [1 << 31, 40, 0], u32::MAX),
        ("shl.b32 %r0, %r1, %r2;", [1, 32, 0], 0),
        ("min.s32 %r0, %r1, %r2;", [u32::MAX, 1, 0], u32::MAX),
        ("rem.s32 %r0, %r1, %r2;", [7u32.wrapping_neg(), 3, 0], u32::MAX),
        ("popc.b32 %r0, %r1;", [0xf0f, 0, 0], 8),
        ("clz.b32 %r0, %r1;", [0, 0, 0], 32),
        // Byte 0, then byte 7, then byte 4, then the sign of byte 3.
        ("prmt.b32 %r0, %r1, %r2, %r3;", [0x8111_1122, 0x4433_3355, 0xb470], 0xff55_4422),
        ("bfe.u32 %r0, %r1, %r2, %r3;", [0xabcd_1234, 8, 8], 0x12),
        ("bfe.s32 %r0, %r1, %r2, %r3;", [0xabcd_8034, 8, 8], 0xffff_ff80),
        ("bfi.b32 %r0, %r1, %r2, 4, 8;", [0xab, 0xffff_ffff, 0], 0xffff_fabf),
        ("lop3.b32 %r0, %r1, %r2, %r3, 0x96;", [0b1100, 0b1010, 0b1001], 0b1111),
        ("shf.l.wrap.b32 %r0, %r1, %r2, %r3;", [0x8000_0000, 1, 1], 3),
        ("setp.lt.s32 %p1, %r1, %r2;\nselp.b32 %r0, 5, 6, %p1;", [u32::MAX, 0, 0], 5),
        ("setp.lt.u32 %p1, %r1, %r2;\nselp.b32 %r0, 5, 6, %p1;", [u32::MAX, 0, 0], 6),
    ]);
}

#[test]
fn floats_and_their_rounding() {
    let bits = f32::to_bits;
    let tiny = 2f32.powi(-60);
    check(&[
        ("fma.rn.f32 %r0, %r1, %r2, %r3;", [bits(1.0), bits(tiny), bits(1.0)], bits(1.0)),
        ("fma.rp.f32 %r0, %r1, %r2, %r3;", [bits(1.0), bits(tiny), bits(1.0)], bits(1.0) + 1),
        ("fma.rm.f32 %r0, %r1, %r2, %r3;", [bits(-1.0), bits(tiny), bits(1.0)], bits(1.0) - 1),
        ("fma.rz.f32 %r0, %r1, %r2, %r3;", [bits(-1.0), bits(tiny), bits(-1.0)], bits(-1.0)),
        ("div.rn.f32 %r0, %r1, %r2;", [bits(1.0), bits(3.0), 0], 0x3eaa_aaab),
        ("max.f32 %r0, %r1, %r2;", [bits(f32::NAN), bits(-3.0), 0], bits(-3.0)),
        ("min.f32 %r0, %r1, %r2;", [bits(0.0), bits(-0.0), 0], bits(-0.0)),
        ("ex2.approx.ftz.f32 %r0, %r1;", [bits(-3.0), 0, 0], bits(0.125)),
        ("lg2.approx.f32 %r0, %r1;", [bits(32.0), 0, 0], bits(5.0)),
        ("cvt.rni.s32.f32 %r0, %r1;", [bits(2.5), 0, 0], 2),
        ("cvt.rzi.s32.f32 %r0, %r1;", [bits(-2.5), 0, 0], 2u32.wrapping_neg()),
        ("cvt.rzi.s32.f32 %r0, %r1;", [bits(1e20), 0, 0], i32::MAX as u32),
        ("cvt.rzi.u32.f32 %r0, %r1;", [bits(-4.0), 0, 0], 0),
        ("cvt.sat.f32.f32 %r0, %r1;", [bits(1.5), 0, 0], bits(1.0)),
        ("cvt.rn.f32.s32 %r0, %r1;", [0x0100_0001, 0, 0], bits(16_777_216.0)),
        ("cvt.rp.f32.u32 %r0, %r1;", [0x0100_0001, 0, 0], bits(16_777_218.0)),
        // A tie goes to the even neighbour; the first operand to the high half.
        ("cvt.rn.bf16x2.f32 %r0, %r1, %r2;", [0x3f80_8000, 0x3f81_8000, 0], 0x3f80_3f82),
        ("cvt.rz.bf16.f32 %h1, %r1;\ncvt.u32.u16 %r0, %h1;", [0x3f81_ffff, 0, 0], 0x3f81),
        ("cvt.rn.f16.f32 %h1, %r1;\ncvt.u32.u16 %r0, %h1;", [bits(1.5), 0, 0], 0x3e00),
        ("setp.ltu.f32 %p1, %r1, %r2;\nselp.b32 %r0, 5, 6, %p1;", [bits(f32::NAN), bits(0.0), 0], 5),
        ("setp.lt.f32 %p1, %r1, %r2;\nselp.b32 %r0, 5, 6, %p1;", [bits(f32::NAN), bits(0.0), 0], 6),
    ]);
}
