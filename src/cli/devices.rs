//! `tealight devices`: the GPUs that a model may compute on.

use serde_json::{Value as Json, json};
use tealight::{DeviceInfo, ErrorKind, devices};

use super::args::DevicesArgs;
use super::output::Output;
use super::{Outcome, files};

pub(crate) fn run(args: &DevicesArgs, out: &mut Output) -> Outcome {
    let (found, reason) = match devices() {
        Ok(found) if found.is_empty() => (found, Some(NOTHING_FOUND.to_owned())),
        Ok(found) => (found, None),
        // A build without GPU support has none to list, which is no failure of the listing.
        Err(e) if e.kind() == ErrorKind::Usage => (Vec::new(), Some(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    let text = match args.json {
        true => format!("{:#}\n", json!({"devices": found.iter().map(object).collect::<Json>(), "reason": reason})),
        false => table(&found, reason.as_deref()),
    };
    out.bytes(text.as_bytes())
}

const NOTHING_FOUND: &str = if cfg!(target_os = "linux") {
    "no Vulkan driver answers; install the one of the GPU, and the Vulkan loader (libvulkan.so.1)"
} else if cfg!(target_vendor = "apple") {
    "Metal shows none"
} else {
    "neither Vulkan nor DX12 shows one; install the graphics driver of the GPU"
};

fn object(device: &DeviceInfo) -> Json {
    json!({
        "index": device.index,
        "name": device.name,
        "kind": device.kind.to_string(),
        "backend": device.backend,
        "driver": device.driver,
        "driver_version": device.driver_version,
        "memory": device.memory,
        "budget": device.budget,
        "max_buffer": device.max_buffer,
        "max_binding": device.max_binding,
        "features": device.features,
        "usable": device.fault.is_none(),
        "reason": device.fault,
    })
}

/// A line per GPU, and what people may wonder about below it.
fn table(found: &[DeviceInfo], reason: Option<&str>) -> String {
    let mut text = String::new();
    let width = |of: fn(&DeviceInfo) -> &str| found.iter().map(|d| of(d).chars().count()).max().unwrap_or(0);
    let (names, backends) = (width(|d| &d.name), width(|d| &d.backend));
    for d in found {
        let memory = match (d.memory, d.budget) {
            (Some(total), Some(budget)) => format!("{}, {} free", files::size(total), files::size(budget)),
            (Some(total), None) => files::size(total),
            (None, _) => "memory not told".to_owned(),
        };
        let (kind, features) = (d.kind.to_string(), features(d));
        text += &format!("{:>2}  {:<names$}  {kind:<10}  {:<backends$}  {memory}\n", d.index, d.name, d.backend);
        let driver = [d.driver.as_str(), d.driver_version.as_str()].join(" ");
        let driver = Some(driver.trim()).filter(|d| !d.is_empty()).map(|d| format!("driver {d}; ")).unwrap_or_default();
        text += &format!("    {driver}{features}; buffers up to {}\n", files::size(d.max_buffer));
        if let Some(fault) = &d.fault {
            text += &format!("    cannot be used: {fault}\n");
        }
    }
    let usable = |d: &&DeviceInfo| d.fault.is_none();
    match (reason, found.iter().find(usable)) {
        (Some(reason), _) => text += &format!("no GPU: {reason}\n"),
        (None, None) => text += "no GPU can be used; models compute on the CPU\n",
        (None, Some(best)) if best.kind == tealight::engine::DeviceKind::Software => {
            text += "no GPU but software, which is slower than the CPU itself: only --device gpu, a number or a name takes it\n";
        }
        (None, Some(_)) => {}
    }
    text
}

fn features(device: &DeviceInfo) -> String {
    if device.features.is_empty() { "no optional features".to_owned() } else { device.features.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_has_a_reason() {
        assert_eq!(table(&[], Some("x")), "no GPU: x\n");
    }
}
