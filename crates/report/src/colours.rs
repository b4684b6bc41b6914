//! The colours of charts, which a page and a chart that stands alone share. Invariant: every class has a light and a dark one.

/// Classes of charts and their colours, light and dark. The hues are Okabe and Ito's, which colour-blind readers can tell
/// apart.
pub(crate) const COLOURS: &str = "\
:root{--back:#fff;--ink:#1d2228;--faint:#5c6670;--grid:#d9dee3;--edge:#1d222838;--c1:#0072b2;--c2:#d55e00;--c3:#7f96ab;--c4:#009e73;\
--k1:#2f6fb0;--k2:#a9c3de;--k3:#e69f00;--k4:#7fb58f;--k5:#b07aa8}\
@media(prefers-color-scheme:dark){:root{--back:#14181d;--ink:#e6e9ec;--faint:#a2adb8;--grid:#323a43;--edge:#00000099;--c1:#56b4e9;\
--c2:#ff9a4d;--c3:#8497a8;--c4:#3fcf9f;--k1:#4d94dd;--k2:#37536f;--k3:#e6a620;--k4:#4e8f62;--k5:#a56f9d}}\
.back{fill:var(--back)}.grid{stroke:var(--grid);fill:none;stroke-width:.7}.line{fill:none;stroke-width:1.8}\
.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}\
.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}\
.t1{fill:var(--c1)}.t2{fill:var(--c2)}.t3{fill:var(--c3)}.t4{fill:var(--c4)}\
.chosen{fill:none;stroke:var(--ink);stroke-width:2}\
.k1{fill:var(--k1)}.k2{fill:var(--k2)}.k3{fill:var(--k3)}.k4{fill:var(--k4)}.k5{fill:var(--k5)}\
text{fill:var(--ink);font-size:12px}text.tick{fill:var(--faint);font-size:11px}\
text.t1{fill:var(--c1)}text.t2{fill:var(--c2)}text.t3{fill:var(--c3)}text.t4{fill:var(--c4)}";
