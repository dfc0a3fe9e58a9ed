//! What naga and wgpu leave unchecked about a kernel, and what only another platform's driver would say: it becomes
//! SPIR-V, MSL and HLSL, its bindings are those of its table, its barriers stand in uniform control flow, and it stays
//! within what every device has. Needs no GPU.

use std::collections::HashSet;

use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Block, BuiltIn, Expression, Function, Handle, Module, Statement, StorageAccess};

use super::compose::{Kernel, Slot};

/// Limits of the smallest device.
const WORKGROUP_BYTES: u32 = 16 << 10;
const INVOCATIONS: u32 = 256;
const STORAGE_BUFFERS: usize = 8;

/// May a kernel use operations of subgroups?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subgroups {
    No,
    Yes,
}

/// Everything that is wrong with a kernel.
pub(super) fn check(kernel: &Kernel, subgroups: Subgroups) -> Vec<String> {
    let text = kernel.text();
    let module = match naga::front::wgsl::parse_str(&text) {
        Ok(module) => module,
        Err(e) => return vec![e.emit_to_string(&text)],
    };
    let info = match validate(&module, kernel.f16, subgroups) {
        Ok(info) => info,
        Err(e) => return vec![e],
    };
    let mut findings = Vec::new();
    for checked in [true, false] {
        findings.extend(spirv(&module, &info, checked).err());
        findings.extend(metal(&module, &info, checked).err());
        findings.extend(direct_x(&module, &info, checked).err());
    }
    findings.extend(check_slots(&module, kernel.slots));
    findings.extend(check_limits(&module));
    findings.extend(check_uniformity(&module));
    findings
}

fn validate(module: &Module, f16: bool, subgroups: Subgroups) -> Result<ModuleInfo, String> {
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SHADER_FLOAT16, f16);
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    if subgroups == Subgroups::Yes {
        validator = Validator::new(ValidationFlags::all(), capabilities | Capabilities::SUBGROUP);
        validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    }
    validator.validate(module).map_err(|e| {
        let mut text = format!("validation: {e}");
        let mut cause = std::error::Error::source(e.as_inner());
        while let Some(e) = cause {
            text += &format!(": {e}");
            cause = e.source();
        }
        text
    })
}

fn policies(checked: bool) -> BoundsCheckPolicies {
    let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    BoundsCheckPolicies { index: policy, buffer: policy, image_load: policy, binding_array: policy }
}

fn spirv(module: &Module, info: &ModuleInfo, checked: bool) -> Result<(), String> {
    use spv::ZeroInitializeWorkgroupMemoryMode as Zero;
    let options = spv::Options {
        lang_version: (1, 3),
        bounds_check_policies: policies(checked),
        force_loop_bounding: checked,
        emit_int_div_checks: checked,
        zero_initialize_workgroup_memory: if checked { Zero::Polyfill } else { Zero::None },
        ..Default::default()
    };
    let stage = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    spv::write_vec(module, info, &options, Some(&stage)).map(drop).map_err(|e| format!("SPIR-V: {e}"))
}

fn metal(module: &Module, info: &ModuleInfo, checked: bool) -> Result<(), String> {
    let options = msl::Options {
        lang_version: (2, 4),
        fake_missing_bindings: true,
        bounds_check_policies: policies(checked),
        force_loop_bounding: checked,
        emit_int_div_checks: checked,
        zero_initialize_workgroup_memory: checked,
        ..Default::default()
    };
    msl::write_string(module, info, &options, &Default::default()).map(drop).map_err(|e| format!("MSL: {e}"))
}

fn direct_x(module: &Module, info: &ModuleInfo, checked: bool) -> Result<(), String> {
    for shader_model in [hlsl::ShaderModel::V6_0, hlsl::ShaderModel::V6_4] {
        let half = module.types.iter().any(|(_, ty)| ty.inner.scalar_width() == Some(2));
        // Half precision needs 6.2.
        if half && shader_model == hlsl::ShaderModel::V6_0 {
            continue;
        }
        let options = hlsl::Options {
            shader_model,
            fake_missing_bindings: true,
            force_loop_bounding: checked,
            restrict_indexing: checked,
            zero_initialize_workgroup_memory: checked,
            ..Default::default()
        };
        let (mut text, stage) = (String::new(), hlsl::PipelineOptions::default());
        let mut writer = hlsl::Writer::new(&mut text, &options, &stage);
        writer.write(module, info, None).map_err(|e| format!("HLSL {shader_model:?}: {e}"))?;
    }
    Ok(())
}

/// Bindings against the table: those that the kernel declares, each number once, with that access. A kernel need not
/// use all that its kind of kernels is given.
fn check_slots(module: &Module, slots: &[Slot]) -> Vec<String> {
    let mut declared: Vec<(u32, u32, Slot)> = Vec::new();
    for (_, var) in module.global_variables.iter() {
        let Some(binding) = var.binding else { continue };
        let slot = match var.space {
            AddressSpace::Uniform => Slot::Uniform,
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Slot::Write,
            _ => Slot::Read,
        };
        declared.push((binding.group, binding.binding, slot));
    }
    declared.sort_by_key(|d| (d.0, d.1));
    let is_given = |d: &(u32, u32, Slot)| d.0 == 0 && slots.get(d.1 as usize) == Some(&d.2);
    let is_twice = declared.windows(2).any(|d| (d[0].0, d[0].1) == (d[1].0, d[1].1));
    match declared.iter().all(is_given) && !is_twice {
        true => vec![],
        false => vec![format!("bindings {declared:?}, but the table has {slots:?}")],
    }
}

fn check_limits(module: &Module) -> Vec<String> {
    let mut findings = Vec::new();
    for entry in &module.entry_points {
        let n: u32 = entry.workgroup_size.iter().product();
        if n > INVOCATIONS {
            findings.push(format!("{n} invocations of {INVOCATIONS}"));
        }
    }
    let is_shared = |space| space == AddressSpace::WorkGroup;
    let vars = || module.global_variables.iter().map(|(_, var)| var);
    let bytes: u32 =
        vars().filter(|v| is_shared(v.space)).map(|v| module.types[v.ty].inner.size(module.to_ctx())).sum();
    if bytes > WORKGROUP_BYTES {
        findings.push(format!("{bytes} bytes of workgroup memory of {WORKGROUP_BYTES}"));
    }
    let buffers = vars().filter(|v| matches!(v.space, AddressSpace::Storage { .. })).count();
    if buffers > STORAGE_BUFFERS {
        findings.push(format!("{buffers} storage buffers of {STORAGE_BUFFERS}"));
    }
    findings
}

/// Barriers and subgroup operations that not every invocation of a workgroup may reach.
fn check_uniformity(module: &Module) -> Vec<String> {
    let mut facts = Vec::new();
    let mut findings = Vec::new();
    for (_, function) in module.functions.iter() {
        let (mut of_function, found) = walk(module, function, Arguments::Uniform, &facts);
        of_function.needs_uniform = !walk(module, function, Arguments::Divergent, &facts).1.is_empty();
        facts.push(of_function);
        findings.extend(found);
    }
    for entry in &module.entry_points {
        findings.extend(walk(module, &entry.function, Arguments::BuiltIn, &facts).1);
    }
    findings
}

/// What callers must know of a function.
#[derive(Clone, Copy, Default)]
struct Facts {
    /// It has a barrier.
    syncs: bool,
    /// Arguments that differ between invocations would make one reach it without others.
    needs_uniform: bool,
    /// Its result may differ between invocations whose arguments are the same.
    divergent_result: bool,
}

/// What a walk takes a function's arguments for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// An entry point's.
    BuiltIn,
    /// The same for every invocation of a workgroup.
    Uniform,
    Divergent,
}

/// One pass over a function. Order of statements is ignored where that is the safe side: a local is uniform only if
/// everything ever stored in it is uniform and stored in uniform control flow.
struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    arguments: Arguments,
    facts: &'a [Facts],
    divergent: HashSet<Handle<naga::LocalVariable>>,
    result: Facts,
    /// Some invocations have returned already.
    returned: bool,
    /// Looking ahead: nothing is reported.
    muted: bool,
    findings: Vec<String>,
}

/// Walks until the set of divergent locals grows no more.
fn walk(module: &Module, function: &Function, arguments: Arguments, facts: &[Facts]) -> (Facts, Vec<String>) {
    let is_constant = |e: Handle<Expression>| {
        use Expression as E;
        matches!(function.expressions[e], E::Literal(_) | E::Constant(_) | E::ZeroValue(_) | E::Compose { .. })
    };
    let computed = |local: &naga::LocalVariable| local.init.is_some_and(|e| !is_constant(e));
    let mut divergent: HashSet<_> =
        function.local_variables.iter().filter(|(_, local)| computed(local)).map(|(h, _)| h).collect();
    loop {
        let mut walk = Walk {
            module,
            function,
            arguments,
            facts,
            divergent: divergent.clone(),
            result: Facts::default(),
            returned: false,
            muted: false,
            findings: Vec::new(),
        };
        walk.block(&function.body, false);
        if walk.divergent == divergent {
            return (walk.result, walk.findings);
        }
        divergent = walk.divergent;
    }
}

impl Walk<'_> {
    /// The variable behind a pointer, and whether all indices on the way are uniform.
    fn root(&self, mut pointer: Handle<Expression>) -> (&Expression, bool) {
        let mut uniform = true;
        loop {
            match self.function.expressions[pointer] {
                Expression::Access { base, index } => {
                    uniform &= self.is_uniform(index);
                    pointer = base;
                }
                Expression::AccessIndex { base, .. } => pointer = base,
                ref root => return (root, uniform),
            }
        }
    }

    /// Is the value the same for every invocation of a workgroup?
    fn is_uniform(&self, e: Handle<Expression>) -> bool {
        use Expression as E;
        let is = |e: Handle<Expression>| self.is_uniform(e);
        let is_all = |list: &[Option<Handle<Expression>>]| list.iter().flatten().all(|&e| is(e));
        match self.function.expressions[e] {
            E::Literal(_) | E::Constant(_) | E::Override(_) | E::ZeroValue(_) | E::ArrayLength(_) => true,
            E::WorkGroupUniformLoadResult { .. } => true,
            E::Compose { ref components, .. } => components.iter().all(|&c| is(c)),
            E::Access { base, index } => is(base) && is(index),
            E::AccessIndex { base, .. } => is(base),
            E::Splat { value, .. } => is(value),
            E::Swizzle { vector, .. } => is(vector),
            E::FunctionArgument(i) => self.is_uniform_argument(i),
            E::Load { pointer } => self.is_uniform_load(pointer),
            E::Unary { expr, .. } | E::As { expr, .. } => is(expr),
            E::Binary { left, right, .. } => is(left) && is(right),
            E::Select { condition, accept, reject } => is(condition) && is(accept) && is(reject),
            E::Relational { argument, .. } => is(argument),
            E::Math { arg, arg1, arg2, arg3, .. } => is_all(&[Some(arg), arg1, arg2, arg3]),
            E::CallResult(_) => call_of(&self.function.body, e).is_some_and(|(function, arguments)| {
                !self.facts[function.index()].divergent_result && arguments.iter().all(|&a| is(a))
            }),
            _ => false,
        }
    }

    fn is_uniform_argument(&self, i: u32) -> bool {
        use BuiltIn as B;
        if self.arguments != Arguments::BuiltIn {
            return self.arguments == Arguments::Uniform;
        }
        let uniform = |b| matches!(b, B::WorkGroupId | B::NumWorkGroups | B::WorkGroupSize | B::NumSubgroups);
        matches!(self.function.arguments[i as usize].binding, Some(naga::Binding::BuiltIn(b)) if uniform(b))
    }

    fn is_uniform_load(&self, pointer: Handle<Expression>) -> bool {
        let (root, indices) = self.root(pointer);
        indices
            && match *root {
                Expression::GlobalVariable(var) => match self.module.global_variables[var].space {
                    AddressSpace::Uniform | AddressSpace::Immediate => true,
                    AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
                    _ => false,
                },
                Expression::LocalVariable(local) => !self.divergent.contains(&local),
                _ => false,
            }
    }

    fn store(&mut self, pointer: Handle<Expression>, uniform: bool) {
        let (root, indices) = self.root(pointer);
        if let Expression::LocalVariable(local) = *root
            && !(uniform && indices && !self.returned)
        {
            self.divergent.insert(local);
        }
    }

    fn sync(&mut self, what: &str, diverged: bool, span: naga::Span) {
        self.result.syncs = true;
        if (diverged || self.returned) && !self.muted {
            let at = span.to_range().map_or(0, |r| r.start);
            self.findings.push(format!("{what} in divergent control flow (byte {at})"));
        }
    }

    /// Walks statements; true if some invocations may leave the enclosing loop, or its body, here.
    fn block(&mut self, block: &Block, mut diverged: bool) -> bool {
        let mut left = false;
        for (statement, &span) in block.span_iter() {
            match *statement {
                Statement::ControlBarrier(_) => self.sync("a barrier", diverged, span),
                Statement::WorkGroupUniformLoad { .. } => self.sync("a uniform load", diverged, span),
                Statement::SubgroupBallot { .. }
                | Statement::SubgroupGather { .. }
                | Statement::SubgroupCollectiveOperation { .. } => self.sync("a subgroup operation", diverged, span),
                Statement::CooperativeStore { .. } => self.sync("a cooperative store", diverged, span),
                Statement::Store { pointer, value } => {
                    let uniform = !diverged && self.is_uniform(value);
                    self.store(pointer, uniform);
                }
                Statement::Block(ref inner) => left |= self.block(inner, diverged),
                Statement::If { condition, ref accept, ref reject } => {
                    let inside = diverged || !self.is_uniform(condition);
                    left |= self.block(accept, inside);
                    left |= self.block(reject, inside);
                }
                Statement::Switch { selector, ref cases } => {
                    let inside = diverged || !self.is_uniform(selector);
                    // A break leaves the switch only, a continue the loop; taken for one, on the safe side.
                    for case in cases {
                        left |= self.block(&case.body, inside) && has_continue(&case.body);
                    }
                }
                Statement::Loop { ref body, ref continuing, break_if } => {
                    self.rounds(body, continuing, break_if, diverged);
                }
                Statement::Break | Statement::Continue => left |= diverged,
                Statement::Return { value } => {
                    self.result.divergent_result |= value.is_some_and(|v| diverged || !self.is_uniform(v));
                    self.returned |= diverged;
                }
                Statement::Call { function, ref arguments, .. } => self.call(function, arguments, diverged, span),
                _ => {}
            }
            diverged |= left;
        }
        left
    }

    /// A loop: what a round makes divergent holds for the rounds after it.
    fn rounds(&mut self, body: &Block, continuing: &Block, break_if: Option<Handle<Expression>>, mut diverged: bool) {
        let muted = std::mem::replace(&mut self.muted, true);
        for _ in 0..2 {
            let left = self.block(body, diverged);
            diverged |= left;
            let left = self.block(continuing, diverged);
            diverged |= left || break_if.is_some_and(|e| !self.is_uniform(e));
        }
        self.muted = muted;
        self.block(body, diverged);
        self.block(continuing, diverged);
    }

    fn call(&mut self, function: Handle<Function>, arguments: &[Handle<Expression>], diverged: bool, span: naga::Span) {
        for &argument in arguments {
            // A pointer to a local: the callee may store anything there.
            if !matches!(self.function.expressions[argument], Expression::Load { .. }) {
                self.store(argument, false);
            }
        }
        let facts = self.facts[function.index()];
        if facts.syncs {
            let diverged = diverged || facts.needs_uniform && arguments.iter().any(|&a| !self.is_uniform(a));
            self.sync("a call of a function with a barrier", diverged, span);
        }
    }
}

fn has_continue(block: &Block) -> bool {
    block.iter().any(|s| match s {
        Statement::Continue => true,
        Statement::Block(b) => has_continue(b),
        Statement::If { accept, reject, .. } => has_continue(accept) || has_continue(reject),
        Statement::Switch { cases, .. } => cases.iter().any(|c| has_continue(&c.body)),
        _ => false,
    })
}

/// The call that gave a result.
fn call_of(block: &Block, wanted: Handle<Expression>) -> Option<(Handle<Function>, &[Handle<Expression>])> {
    block.iter().find_map(|statement| match statement {
        Statement::Call { function, arguments, result } if *result == Some(wanted) => Some((*function, &arguments[..])),
        Statement::Block(b) => call_of(b, wanted),
        Statement::If { accept, reject, .. } => call_of(accept, wanted).or_else(|| call_of(reject, wanted)),
        Statement::Switch { cases, .. } => cases.iter().find_map(|c| call_of(&c.body, wanted)),
        Statement::Loop { body, continuing, .. } => call_of(body, wanted).or_else(|| call_of(continuing, wanted)),
        _ => None,
    })
}

mod tests {
    use super::*;
    use crate::gpu::compose::SELECT;

    const HEAD: &str = "@group(0) @binding(0) var<storage, read_write> o: array<u32>;\n\
        @group(0) @binding(1) var<storage, read> r: array<u32>;\n\
        var<workgroup> w: array<u32, 64>;\n\
        fn sync() -> u32 { workgroupBarrier(); return 1u; }\n\
        fn some(x: u32) { if x > 3u { workgroupBarrier(); } }\n\
        fn put(x: u32) { if x > 3u { w[x] = x; } workgroupBarrier(); }\n\
        fn odd(x: u32) -> u32 { if x > 3u { return w[x]; } return 2u; }\n\
        @compute @workgroup_size(64)\n\
        fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) g: vec3<u32>) {\n";

    fn diverges(body: &str) -> bool {
        let text = format!("{HEAD}{body}\no[lane] = w[lane];}}");
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        validate(&module, false, Subgroups::Yes).unwrap();
        !check_uniformity(&module).is_empty()
    }

    #[test]
    fn barriers_that_not_everyone_reaches_are_found() {
        for body in [
            "if lane < 3u { workgroupBarrier(); }",
            "if lane > 3u { return; } workgroupBarrier();",
            "for (var i = 0u; i < o[0]; i++) { workgroupBarrier(); }",
            "for (var i = 0u; i < lane; i++) { workgroupBarrier(); }",
            "for (var i = 0u; i < 4u; i++) { if i == lane { break; } workgroupBarrier(); }",
            "for (var i = 0u; i < 4u; i++) { if i == lane { continue; } workgroupBarrier(); }",
            "for (var i = 0u; i < 4u; i++) { workgroupBarrier(); if i == lane { break; } }",
            "loop { workgroupBarrier(); continuing { break if w[0] == 1u; } }",
            "switch lane { case 1u: { workgroupBarrier(); } default: {} }",
            "if lane < 3u { o[1] = sync(); }",
            "some(lane);",
            "if lane < 3u { put(g.x); }",
            "if odd(g.x) == 2u { workgroupBarrier(); }",
            "if r[lane] == 2u { workgroupBarrier(); }",
            "var n = 1u; if lane == 2u { n = 2u; } if n == 1u { workgroupBarrier(); }",
            "if lane < 3u { o[2] = subgroupAdd(lane); }",
        ] {
            assert!(diverges(body), "{body}");
        }
    }

    #[test]
    fn barriers_that_everyone_reaches_pass() {
        for body in [
            "workgroupBarrier();",
            "if g.x > 3u { return; } workgroupBarrier();",
            "for (var i = 0u; i < r[g.x]; i++) { workgroupBarrier(); w[lane] += i; workgroupBarrier(); }",
            "for (var i = 32u; i > 0u; i /= 2u) { if lane < i { w[lane] += w[lane + i]; } workgroupBarrier(); }",
            "let n = workgroupUniformLoad(&w[0]); for (var i = 0u; i < n; i++) { workgroupBarrier(); }",
            "o[1] = sync();",
            "some(g.x);",
            "put(lane);",
            "var n = 1u; if g.y == 2u { n = 2u; } if n == 1u { workgroupBarrier(); }",
        ] {
            assert!(!diverges(body), "{body}");
        }
    }

    #[test]
    fn limits_and_bindings_are_checked() {
        let module = |text: &str| naga::front::wgsl::parse_str(text).unwrap();
        let body = "@compute @workgroup_size(WG) fn main() { w[0] = 1u; }";
        let limits =
            |wg, n| check_limits(&module(&format!("const WG = {wg}; var<workgroup> w: array<u32, {n}>; {body}")));
        assert_eq!(limits(256, 4096).len(), 0);
        assert_eq!(limits(257, 4096).len(), 1);
        assert_eq!(limits(256, 4097).len(), 1);
        let buffer = |i| format!("@group(0) @binding({i}) var<storage, read> b{i}: array<u32>;");
        let buffers = |n: u32| (0..n).map(buffer).collect::<String>();
        assert_eq!((check_limits(&module(&buffers(8))).len(), check_limits(&module(&buffers(9))).len()), (0, 1));
        use Slot::{Read, Uniform, Write};
        for (slots, wrong) in
            [(&[Read, Read][..], 0), (&[Read, Write], 1), (&[Read], 1), (&[Read, Read, Read], 0), (&[Read, Uniform], 1)]
        {
            assert_eq!(check_slots(&module(&buffers(2)), slots).len(), wrong, "{slots:?}");
        }
    }

    #[test]
    fn a_kernel_is_refused_for_a_wrong_table_or_a_missing_feature() {
        let kernel = Kernel::new("argmax", SELECT).with("lib/select").set("STAGE", 1);
        assert_eq!(check(&kernel, Subgroups::No), Vec::<String>::new());
        let misbound = Kernel { slots: &SELECT[1..], ..kernel.clone() };
        assert_eq!(check(&misbound, Subgroups::No).len(), 1);
        let broken = Kernel { consts: vec![], ..kernel };
        assert_eq!(check(&broken, Subgroups::No).len(), 1);
        let validated =
            |text: &str, f16, subgroups| validate(&naga::front::wgsl::parse_str(text).unwrap(), f16, subgroups).is_ok();
        let half = "enable f16; var<private> h: f16; @compute @workgroup_size(1) fn main() { h = 1.0h; }";
        assert!(validated(half, true, Subgroups::No) && !validated(half, false, Subgroups::No));
        let sum = "var<private> h: u32; @compute @workgroup_size(1) fn main() { h = subgroupAdd(1u); }";
        assert!(validated(sum, false, Subgroups::Yes) && !validated(sum, false, Subgroups::No));
    }
}
