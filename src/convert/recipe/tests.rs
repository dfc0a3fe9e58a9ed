//! Decisions worked out from llama.cpp's rules by hand.

use super::*;
use BlockType as T;

/// A model of `n_layer` blocks with rows of `n_embd`; `n_expert` of 0 for none.
struct Shapes {
    names: Vec<(String, Vec<u64>)>,
    facts: ModelFacts,
}

fn model(n_layer: usize, n_embd: u64, n_expert: usize, tied: bool) -> Shapes {
    let mut names = vec![("token_embd.weight".to_owned(), vec![1000, n_embd])];
    names.push(("output_norm.weight".into(), vec![n_embd]));
    if !tied {
        names.push(("output.weight".into(), vec![1000, n_embd]));
    }
    for i in 0..n_layer {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            names.push((format!("blk.{i}.{part}.weight"), vec![n_embd, n_embd]));
        }
        let suffix = if n_expert > 0 { "_exps" } else { "" };
        for part in ["ffn_gate", "ffn_up", "ffn_down"] {
            let shape = if n_expert > 0 { vec![n_expert as u64, n_embd, n_embd] } else { vec![n_embd, n_embd] };
            names.push((format!("blk.{i}.{part}{suffix}.weight"), shape));
        }
        names.push((format!("blk.{i}.ffn_norm.weight"), vec![n_embd]));
    }
    sort_for_output(&mut names, |t| &t.0);
    let facts = ModelFacts { arch: "llama".into(), n_layer, n_head: 8, n_head_kv: 8, n_expert, has_importance: false };
    Shapes { names, facts }
}

impl Shapes {
    fn tensors(&self) -> Vec<TensorFacts<'_>> {
        self.names.iter().map(|(name, shape)| TensorFacts { name, shape, ty: T::F32 }).collect()
    }

    fn choose(&self, recipe: Recipe, options: &RecipeOptions) -> Result<Vec<Decision>> {
        choose_types(recipe, &self.facts, &self.tensors(), options)
    }

    /// The decision for one tensor.
    fn of(&self, name: &str, recipe: Recipe, options: &RecipeOptions) -> Decision {
        let at = self.names.iter().position(|t| t.0 == name).unwrap();
        self.choose(recipe, options).unwrap()[at]
    }

    fn ty(&self, name: &str, recipe: Recipe) -> T {
        self.of(name, recipe, &RecipeOptions::default()).ty
    }
}

#[test]
fn recipes_are_found_by_name_number_and_alias() {
    for &recipe in Recipe::ALL {
        assert_eq!(Recipe::parse(recipe.name()).unwrap(), recipe);
        assert_eq!(Recipe::parse(&recipe.name().to_lowercase()).unwrap(), recipe);
        assert_eq!(Recipe::parse(&recipe.file_type().to_string()).unwrap(), recipe);
    }
    assert_eq!(Recipe::parse("q4_k").unwrap(), Recipe::Q4KM);
    assert_eq!(Recipe::parse("15").unwrap(), Recipe::Q4KM);
    let e = Recipe::parse("Q4_K_XL").unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::Usage, "unknown recipe `Q4_K_XL`"));
    assert!(e.hint().unwrap().contains("Q4_K_M"));
}

#[test]
fn tensors_are_written_block_by_block() {
    let mut names = ["blk.10.a", "output.weight", "blk.2.b", "blk.2.a", "token_embd.weight", "blk.x.a"];
    sort_for_output(&mut names, |n| n);
    assert_eq!(names, ["blk.x.a", "output.weight", "token_embd.weight", "blk.2.a", "blk.2.b", "blk.10.a"]);
}

#[test]
fn some_tensors_of_q4_k_m_have_more_bits() {
    let m = model(16, 256, 0, false);
    let downs: Vec<T> = (0..16).map(|i| m.ty(&format!("blk.{i}.ffn_down.weight"), Recipe::Q4KM)).collect();
    let more = [0, 1, 4, 7, 10, 13, 14, 15];
    assert!(downs.iter().enumerate().all(|(i, &ty)| (ty == T::Q6K) == more.contains(&i)), "{downs:?}");
    assert_eq!(m.ty("blk.3.ffn_up.weight", Recipe::Q4KM), T::Q4K);
    assert_eq!(m.ty("output.weight", Recipe::Q4KM), T::Q6K);
    assert_eq!(m.ty("token_embd.weight", Recipe::Q4KM), T::Q4K);
    assert_eq!(m.ty("blk.3.ffn_norm.weight", Recipe::Q4KM), T::F32);
    assert_eq!(m.ty("blk.3.attn_q.weight", Recipe::F16), T::F16);
}

#[test]
fn tied_embeddings_are_an_output() {
    assert_eq!(model(2, 256, 0, true).ty("token_embd.weight", Recipe::Q4_0), T::Q6K);
    assert_eq!(model(2, 256, 0, false).ty("token_embd.weight", Recipe::Q4_0), T::Q4_0);
    assert_eq!(model(2, 256, 0, true).ty("token_embd.weight", Recipe::Iq2Xs), T::Q5K);
    assert_eq!(model(2, 256, 0, true).ty("token_embd.weight", Recipe::Q8_0), T::Q8_0);
}

#[test]
fn rows_that_are_no_whole_blocks_get_another_type() {
    let m = model(2, 96, 0, false);
    let got = |recipe| m.of("blk.0.ffn_up.weight", recipe, &RecipeOptions::default());
    let pair = |recipe| (got(recipe).ty, got(recipe).instead_of);
    assert_eq!(pair(Recipe::Q4KM), (T::Q5_0, Some(T::Q4K)));
    assert_eq!(pair(Recipe::Q6K), (T::Q8_0, Some(T::Q6K)));
    assert_eq!(pair(Recipe::Iq3M), (T::Iq4Nl, Some(T::Iq3S)));
    assert_eq!(pair(Recipe::Tq1_0), (T::Q4_0, Some(T::Tq1_0)));
    assert_eq!(pair(Recipe::Q4_0), (T::Q4_0, None));
    let odd = model(2, 40, 0, false);
    let got = odd.of("blk.0.ffn_up.weight", Recipe::Q4_0, &RecipeOptions::default());
    assert_eq!((got.ty, got.instead_of), (T::F16, Some(T::Q4_0)));
    let e = m.choose(Recipe::Q1_0, &RecipeOptions { pure: true, ..Default::default() }).unwrap_err();
    assert_eq!(e.to_string(), "tensor `output.weight` has rows of 96, which are not whole blocks of Q1_0");
}

#[test]
fn pure_leaves_the_base_type_everywhere() {
    let pure = RecipeOptions { pure: true, ..Default::default() };
    let m = model(4, 256, 0, false);
    for (decision, (name, shape)) in m.choose(Recipe::Q4KM, &pure).unwrap().iter().zip(&m.names) {
        let want = if shape.len() == 1 { T::F32 } else { T::Q4K };
        assert_eq!(decision.ty, want, "{name}");
    }
    let odd = model(4, 96, 0, false);
    assert_eq!(odd.of("output.weight", Recipe::Q4KM, &pure).ty, T::Q5_0);
}

#[test]
fn what_the_user_says_comes_before_the_rules() {
    let m = model(4, 256, 0, false);
    let options = RecipeOptions {
        output_type: Some(T::F16),
        token_embedding_type: Some(T::Q8_0),
        overrides: vec![
            TypeOverride::parse(r"blk\.[01]\.attn_v=q8_0").unwrap(),
            TypeOverride::parse("attn_v=IQ4_XS").unwrap(),
            TypeOverride::parse("output=q4_0").unwrap(),
        ],
        ..Default::default()
    };
    let ty = |name| m.of(name, Recipe::Q4KM, &options).ty;
    assert_eq!(ty("output.weight"), T::F16);
    assert_eq!(ty("token_embd.weight"), T::Q8_0);
    assert_eq!((ty("blk.1.attn_v.weight"), ty("blk.2.attn_v.weight")), (T::Q8_0, T::Iq4Xs));
    assert_eq!(ty("blk.2.attn_output.weight"), T::Q4_0);
    assert_eq!(ty("output_norm.weight"), T::F32);
    let keep = RecipeOptions { keep_output: true, ..options.clone() };
    assert_eq!(m.of("output.weight", Recipe::Q4KM, &keep).ty, T::F32);
    for bad in ["attn_v", "attn_v=Q8_K", "attn_v=Q9", "attn[=Q8_0"] {
        assert_eq!(TypeOverride::parse(bad).unwrap_err().kind(), ErrorKind::Usage, "{bad}");
    }
}

#[test]
fn eight_experts_have_attention_of_more_bits() {
    let m = model(8, 256, 8, false);
    assert_eq!(m.ty("blk.3.attn_v.weight", Recipe::Q4KM), T::Q8_0);
    assert_eq!(m.ty("blk.3.attn_k.weight", Recipe::Q4KM), T::Q8_0);
    assert_eq!(m.ty("blk.3.attn_output.weight", Recipe::Q4KM), T::Q5K);
    assert_eq!(m.ty("blk.3.attn_output.weight", Recipe::Q6K), T::Q6K);
    assert_eq!(m.ty("blk.3.ffn_up_exps.weight", Recipe::Mxfp4Moe), T::Mxfp4);
    assert_eq!(m.ty("blk.3.attn_q.weight", Recipe::Mxfp4Moe), T::Q8_0);
    assert_eq!(model(8, 256, 128, false).ty("blk.3.attn_k.weight", Recipe::Q4KM), T::Q4K);
}

#[test]
fn with_experts_the_layer_counts_and_not_the_tensors_before() {
    let mut m = model(16, 256, 4, false);
    // Only the layers from 8 on have experts.
    m.names.retain(|(name, _)| !name.contains("ffn_down") || layer(name).is_some_and(|l| l >= 8));
    assert_eq!(m.ty("blk.8.ffn_down_exps.weight", Recipe::Q4KM), T::Q4K);
    m.facts.n_expert = 0;
    assert_eq!(m.ty("blk.8.ffn_down_exps.weight", Recipe::Q4KM), T::Q6K);
}

#[test]
fn values_of_70b_models_have_more_bits() {
    let mut m = model(80, 256, 0, false);
    m.facts.n_head_kv = 4;
    assert_eq!(m.ty("blk.40.attn_v.weight", Recipe::Q3KS), T::Q5K);
    assert_eq!(m.ty("blk.41.attn_v.weight", Recipe::Q4KM), T::Q5K);
    m.facts.n_head_kv = 8;
    assert_eq!(m.ty("blk.40.attn_v.weight", Recipe::Q3KS), T::Q3K);
    m.facts.arch = "qwen2".into();
    assert_eq!(m.ty("blk.40.attn_v.weight", Recipe::Q3KS), T::Q5K);
}

#[test]
fn tensors_that_need_importance_are_named() {
    let mut m = model(16, 256, 0, false);
    let check = |m: &Shapes, recipe, has: &dyn Fn(&str) -> bool| {
        let decisions = m.choose(recipe, &RecipeOptions::default()).unwrap();
        require_importance(recipe, &m.tensors(), &decisions, has).map_err(|e| e.to_string())
    };
    for recipe in [Recipe::Q2KS, Recipe::Iq3Xxs, Recipe::Iq3Xs, Recipe::Iq2M, Recipe::Iq1M] {
        assert!(check(&m, recipe, &|_| false).is_err(), "{recipe}");
    }
    for recipe in [Recipe::Q2K, Recipe::Iq3S, Recipe::Iq3M, Recipe::Iq4Xs, Recipe::Q4KM] {
        assert!(check(&m, recipe, &|_| false).is_ok(), "{recipe}");
    }
    m.facts.has_importance = true;
    let message = check(&m, Recipe::Iq2Xxs, &|name| name != "blk.7.ffn_up.weight").unwrap_err();
    assert_eq!(message, "IQ2_XXS makes `blk.7.ffn_up.weight` IQ2_XXS, which needs an importance matrix");
    assert!(check(&m, Recipe::Iq2Xxs, &|name| name.starts_with("blk.")).is_ok());
}
