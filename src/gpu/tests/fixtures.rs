//! Models of the test data: the repository's own, and the shared ones where they are.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::gguf::Gguf;
use crate::plan::{Plan, WeightId, Weights};

/// A model file as a plan and the weights that the plan names.
pub struct Fixture {
    pub name: String,
    pub plan: Arc<Plan>,
    pub weights: Arc<Mapped>,
    pub n_vocab: u32,
}

/// Weights in the memory map of their file.
pub struct Mapped {
    /// The model, then its adapter.
    files: Vec<Gguf>,
    /// File and index of the tensor, by weight of the plan.
    tensors: Vec<(usize, usize)>,
}

impl Weights for Mapped {
    fn bytes(&self, id: WeightId) -> &[u8] {
        let (file, tensor) = self.tensors[id.index()];
        self.files[file].bytes(&self.files[file].tensors()[tensor])
    }
}

impl Fixture {
    /// `None` for an architecture that has no plan yet. `n_ctx` decides frequencies of models whose rotations depend
    /// on the length of the context.
    pub fn open(path: &Path, n_ctx: u32) -> Option<Self> {
        Self::open_with(path, None, n_ctx)
    }

    /// A model that an adapter changes.
    pub fn open_with(path: &Path, adapter: Option<&Path>, n_ctx: u32) -> Option<Self> {
        let open = |path: &Path| Gguf::open(path).unwrap_or_else(|e| panic!("{e}"));
        let files: Vec<Gguf> = std::iter::once(path).chain(adapter).map(open).collect();
        let adapters: Vec<(&Gguf, f32)> = files[1..].iter().map(|a| (a, 1.0)).collect();
        let purpose = crate::arch::Purpose { n_ctx, adapters: &adapters, ..Default::default() };
        let lowered = crate::arch::lower(&files[0], &purpose).ok()?;
        let mut by_name: HashMap<String, (usize, usize)> = HashMap::new();
        for (file, gguf) in files.iter().enumerate() {
            let name = |name: &str| match file {
                0 => name.to_owned(),
                _ => crate::arch::adapter_weight_name(file - 1, name),
            };
            by_name.extend(gguf.tensors().iter().enumerate().map(|(i, t)| (name(&t.name), (file, i))));
        }
        let tensors = lowered.plan.weights().iter().map(|w| by_name[&w.name]).collect();
        let name = path.parent()?.file_name()?.to_string_lossy().into_owned();
        let (plan, n_vocab) = (Arc::new(lowered.plan), lowered.n_vocab);
        Some(Self { name, plan, weights: Arc::new(Mapped { files, tensors }), n_vocab })
    }
}

/// The shared test data; `None` where it is not.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TEALIGHT_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(folder);
    if !path.is_dir() {
        println!("skipped: what needs the folder {folder} of the shared test data");
    }
    path.is_dir().then_some(path)
}

/// Every fixture that has a plan, by name. A copy in the repository goes before the shared one.
pub fn fixtures() -> Vec<Fixture> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut by_name: HashMap<String, Fixture> = HashMap::new();
    for folder in [Some(own), shared("fixtures")].into_iter().flatten() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let files = entries.map(|e| e.unwrap().path().join("model.gguf")).filter(|p| p.is_file());
        for fixture in files.filter_map(|p| Fixture::open(&p, 256)) {
            by_name.entry(fixture.name.clone()).or_insert(fixture);
        }
    }
    let mut found: Vec<Fixture> = by_name.into_values().collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() >= 5, "only {} fixtures", found.len());
    found
}

/// A fixture of the repository.
pub fn own(name: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join("model.gguf");
    Fixture::open(&path, 256).unwrap_or_else(|| panic!("{name} has a plan"))
}
