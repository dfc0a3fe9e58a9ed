//! ollama's models: manifests that name blobs. Nothing of a manifest is believed beyond the digest of its model layer,
//! which must be 64 hexadecimal digits and so names a file of the folder `blobs` and no other.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Found, Keeper, size_of};
use crate::error::escaped;

/// Longest manifest that is read; they hold a dozen layers in a kilobyte or two.
const MAX_MANIFEST: u64 = 1 << 20;

/// Manifests that are read.
const MAX_MANIFESTS: usize = 10_000;

const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

/// The models below `root`: `manifests/<host>/<namespace>/<model>/<tag>`.
pub(super) fn models(root: &Path, notes: &mut Vec<String>) -> Vec<Found> {
    let manifests = root.join("manifests");
    let mut tags = Vec::new();
    collect(&manifests, 4, &mut tags);
    if tags.len() >= MAX_MANIFESTS {
        notes.push(format!("{} holds too much: not all of it was read", escaped(&manifests.to_string_lossy())));
    }
    let mut found = Vec::new();
    for tag in tags {
        let Some(name) = tag.strip_prefix(&manifests).ok().and_then(name_of) else { continue };
        match model_layer(&tag, root) {
            Ok(Some((path, bytes))) => {
                let size = size_of(&path);
                let fault = match size {
                    None => Some("its blob is missing".to_owned()),
                    Some(n) if bytes.is_some_and(|b| b != n) => {
                        Some(format!("its blob has {n} bytes, the manifest says {}", bytes.unwrap_or(0)))
                    }
                    Some(_) => None,
                };
                let n_file = u64::from(size.is_some());
                found.push(Found { name, path, keeper: Keeper::Ollama, bytes: size.unwrap_or(0), n_file, fault });
            }
            // Models that ollama runs elsewhere have no layer of weights.
            Ok(None) => {}
            Err(why) => notes.push(format!("manifest of {}: {why}", escaped(&name))),
        }
    }
    found
}

/// Files exactly `depth` levels down.
fn collect(folder: &Path, depth: usize, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().take(MAX_MANIFESTS).map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if out.len() >= MAX_MANIFESTS {
            return;
        }
        match depth {
            1 if size_of(&path).is_some() => out.push(path),
            1 => {}
            _ if path.is_dir() => collect(&path, depth - 1, out),
            _ => {}
        }
    }
}

/// `model:tag`, with the namespace unless it is `library` and the host unless it is ollama's own.
fn name_of(relative: &Path) -> Option<String> {
    let parts: Vec<&str> = relative.components().map(|c| c.as_os_str().to_str()).collect::<Option<_>>()?;
    let [host, namespace, model, tag] = parts[..] else { return None };
    let own = ["registry.ollama.ai", "ollama.com"].contains(&host);
    Some(match (own, namespace) {
        (true, "library") => format!("{model}:{tag}"),
        (true, _) => format!("{namespace}/{model}:{tag}"),
        (false, _) => format!("{host}/{namespace}/{model}:{tag}"),
    })
}

/// The file of the model layer and the size that the manifest gives.
fn model_layer(manifest: &Path, root: &Path) -> Result<Option<(PathBuf, Option<u64>)>, String> {
    if size_of(manifest).is_none_or(|n| n > MAX_MANIFEST) {
        return Err(format!("longer than {MAX_MANIFEST} bytes"));
    }
    let text = fs::read(manifest).map_err(|e| format!("cannot be read: {e}"))?;
    let json: Value = serde_json::from_slice(&text).map_err(|_| "is no JSON".to_owned())?;
    let layers = json.get("layers").and_then(Value::as_array).ok_or("has no `layers`")?;
    let is_model = |l: &&Value| l.get("mediaType").and_then(Value::as_str) == Some(MODEL_LAYER);
    let Some(layer) = layers.iter().find(is_model) else { return Ok(None) };
    let digest = layer.get("digest").and_then(Value::as_str).unwrap_or_default();
    let hex = digest.strip_prefix("sha256:").filter(|h| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    let hex = hex.ok_or_else(|| format!("the digest `{}` is no SHA-256", crate::error::printable(digest)))?;
    let blobs = root.join("blobs");
    let (new, old) = (blobs.join(format!("sha256-{hex}")), blobs.join(format!("sha256:{hex}")));
    let path = if size_of(&new).is_none() && size_of(&old).is_some() { old } else { new };
    Ok(Some((path, layer.get("size").and_then(Value::as_u64))))
}
