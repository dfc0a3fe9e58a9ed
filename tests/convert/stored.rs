//! What tensors hold: rows that move, numbers in 8 and 4 bits, rows in any stretch.

use serde_json::json;
use tealight::ErrorKind;
use tealight::convert::{ConvertOptions, OutType, Source};
use tealight::gguf::{Gguf, GgufWriter, KeyValue};
use tealight::quant::{self, BlockType};

use crate::folder::{Folder, numbers};

#[test]
fn rows_of_queries_become_pairs() {
    let mut folder = Folder::new("pairs");
    folder.config["head_dim"] = json!(4);
    folder.bf16("model.layers.0.self_attn.q_proj.weight", &[8, 4]);
    folder.bf16("model.layers.0.self_attn.q_proj.bias", &[8]);
    folder.bf16("model.layers.0.self_attn.k_proj.weight", &[4, 4]);
    folder.bf16("model.layers.0.self_attn.v_proj.weight", &[4, 4]);
    folder.bf16("model.layers.0.self_attn.o_proj.weight", &[4, 8]);
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    let bias: Vec<f32> = numbers(&source, "blk.0.attn_q.bias").iter().map(|x| x * 4.0).collect();
    assert_eq!(bias, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    let first: Vec<f32> = numbers(&source, "blk.0.attn_q.weight").chunks(4).map(|row| row[0]).collect();
    assert_eq!(first, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
}

#[test]
fn numbers_of_8_bits_are_scaled_by_tile_row_or_tensor() {
    let mut folder = Folder::new("fp8");
    // E4M3 of 1.0 and of -2.0.
    let codes: Vec<u8> = (0..32).map(|i| if i % 2 == 0 { 0x38 } else { 0xc0 }).collect();
    let f32s = |list: &[f32]| list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut put = |name: &str, dtype, shape: &[u64], bytes: Vec<u8>| {
        folder.tensors.insert(format!("model.layers.0.mlp.{name}"), (dtype, shape.to_vec(), bytes));
    };
    put("up_proj.weight", "F8_E4M3", &[8, 4], codes.clone());
    put("up_proj.weight_scale_inv", "F32", &[2, 2], f32s(&[1.0, 10.0, 100.0, 1000.0]));
    put("gate_proj.weight", "F8_E4M3", &[8, 4], codes.clone());
    put("gate_proj.weight_scale", "F32", &[], f32s(&[0.5]));
    put("gate_proj.input_scale", "F32", &[], f32s(&[7.0]));
    put("down_proj.weight", "F8_E4M3", &[4, 8], codes);
    put("down_proj.weight_scale", "F32", &[4, 1], f32s(&[1.0, 2.0, 3.0, 4.0]));
    folder.config["quantization_config"] = json!({"quant_method": "fp8", "weight_block_size": [4, 2]});
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    let up = numbers(&source, "blk.0.ffn_up.weight");
    assert_eq!(up[..4], [1.0, -2.0, 10.0, -20.0]);
    assert_eq!(up[28..], [100.0, -200.0, 1000.0, -2000.0]);
    assert_eq!(numbers(&source, "blk.0.ffn_gate.weight")[..4], [0.5, -1.0, 0.5, -1.0]);
    let down = numbers(&source, "blk.0.ffn_down.weight");
    assert_eq!((down[0], down[8], down[31]), (1.0, 2.0, -8.0));
    let t = source.tensors.iter().find(|t| t.name == "blk.0.ffn_up.weight").expect("it");
    assert_eq!((t.ty, t.stored()), (BlockType::Bf16, None));

    folder.tensors.insert("model.layers.0.mlp.up_proj.weight_scale_inv".into(), ("F32", vec![3], vec![0; 12]));
    let e = folder.error();
    assert!(e.to_string().contains("up_proj.weight_scale_inv"), "{e}");
}

#[test]
fn blocks_of_4_bits_are_rearranged_without_loss() {
    let mut folder = Folder::new("mxfp4");
    folder.config["intermediate_size"] = json!(32);
    folder.bf16("model.layers.0.mlp.gate_proj.weight", &[32, 4]);
    folder.bf16("model.layers.0.mlp.up_proj.weight", &[32, 4]);
    folder.tensors.remove("model.layers.0.mlp.down_proj.weight");
    let blocks: Vec<u8> = (0..4 * 16u32).map(|i| (i * 37 % 256) as u8).collect();
    let name = "model.layers.0.mlp.down_proj.weight";
    folder.tensors.insert(format!("{name}_blocks"), ("U8", vec![4, 1, 16], blocks.clone()));
    folder.tensors.insert(format!("{name}_scales"), ("U8", vec![4, 1], vec![127, 128, 126, 130]));
    let source = folder.open().unwrap_or_else(|e| panic!("{e}"));
    let fp4 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let value = |code: u8| if code < 8 { fp4[code as usize] } else { -fp4[code as usize - 8] };
    let scale = [1.0, 2.0, 0.5, 8.0];
    let want: Vec<f32> = (0..128usize).map(|i| value(blocks[i / 2] >> (4 * (i % 2)) & 15) * scale[i / 32]).collect();
    assert_eq!(numbers(&source, "blk.0.ffn_down.weight"), want);
    let t = source.tensors.iter().find(|t| t.name == "blk.0.ffn_down.weight").expect("it");
    assert_eq!((t.ty, t.shape.as_slice()), (BlockType::Mxfp4, &[4, 32][..]));
    let mut bytes = Vec::new();
    t.rows_bytes(0..1, &mut bytes).expect("a row");
    t.rows_bytes(1..4, &mut bytes).expect("rows");
    let mut out = vec![0.0; 128];
    quant::dequantize(BlockType::Mxfp4, &bytes, &mut out).expect("whole blocks");
    assert_eq!(out, want);
}

#[test]
fn types_are_what_is_asked_for() {
    let mut folder = Folder::new("types");
    let halves = [0x3c00u16, 0xc000, 0x3555, 0x0001].map(u16::to_le_bytes).concat().repeat(4);
    folder.tensors.insert("lm_head.weight".into(), ("F16", vec![4, 4], halves.clone()));
    for (out, head, embeddings) in [
        (OutType::Auto, BlockType::F16, BlockType::Bf16),
        (OutType::F32, BlockType::F32, BlockType::F32),
        (OutType::F16, BlockType::F16, BlockType::F16),
        (OutType::Bf16, BlockType::Bf16, BlockType::Bf16),
    ] {
        let source = folder.open_with(&ConvertOptions::new().out(out)).unwrap_or_else(|e| panic!("{e}"));
        let ty = |name: &str| source.tensors.iter().find(|t| t.name == name).expect("it").ty;
        assert_eq!((ty("output.weight"), ty("token_embd.weight")), (head, embeddings));
        assert_eq!(ty("output_norm.weight"), BlockType::F32);
        if head == BlockType::F16 {
            let t = source.tensors.iter().find(|t| t.name == "output.weight").expect("it");
            let mut bytes = Vec::new();
            t.rows_bytes(0..4, &mut bytes).expect("rows");
            assert_eq!(bytes, halves);
        }
    }
}

#[test]
fn numbers_that_f16_cannot_hold_are_refused() {
    let mut folder = Folder::new("large");
    let large = [65504.0f32, 1e6, 0.0, -1.0].map(f32::to_le_bytes).concat().repeat(4);
    folder.tensors.insert("lm_head.weight".into(), ("F32", vec![4, 4], large));
    let source = folder.open_with(&ConvertOptions::new().out(OutType::F16)).unwrap_or_else(|e| panic!("{e}"));
    let t = source.tensors.iter().find(|t| t.name == "output.weight").expect("it");
    let e = t.rows_bytes(0..1, &mut Vec::new()).expect_err("a number that does not fit");
    assert!(e.to_string().contains("`output.weight` holds 1000000"), "{e}");
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let folder = Folder::new("rows");
    let source = folder.open().expect("a good folder");
    let t = &source.tensors[0];
    let kind = |rows, n: usize| t.rows_f32(rows, &mut vec![0.0; n]).err().map(|e| e.kind());
    assert_eq!(kind(0..t.n_row() + 1, 0), Some(ErrorKind::Usage));
    assert_eq!(kind(0..1, 1), Some(ErrorKind::Usage));
    assert_eq!(kind(0..0, 0), None);
}

#[test]
fn what_is_set_by_hand_holds() {
    let folder = Folder::new("set");
    let options = ConvertOptions::new().name("mine").set("llama.rope.freq_base", 5.0f32).set("own.key", "x");
    let source = folder.open_with(&options).expect("a good folder");
    assert_eq!(source.value("general.name"), Some(&KeyValue::from("mine")));
    assert_eq!(source.value("llama.rope.freq_base"), Some(&KeyValue::F32(5.0)));
    assert_eq!(source.value("own.key"), Some(&KeyValue::from("x")));
}

#[test]
fn a_gguf_file_is_a_source_of_itself() {
    let mut writer = GgufWriter::new();
    writer.key("general.architecture", "llama");
    writer.key("a.list", KeyValue::strings(["x", "yz"]));
    writer.key(
        "a.nest",
        KeyValue::Array {
            element: tealight::gguf::KeyValue::from(vec![1u8]).ty(),
            items: vec![KeyValue::from(vec![1u8, 2]), KeyValue::from(vec![3.5f32])],
        },
    );
    writer.key("a.i8", -3i8).key("a.f64", 0.1f64).key("a.flag", true);
    writer.tensor("w", BlockType::Q8_0, &[2, 32]);
    let row = [&[0x00, 0x3c][..], &[2u8; 32]].concat();
    let mut body = writer.begin(Vec::new()).expect("a head");
    body.write(&row.repeat(2)).expect("rows");
    let path = std::env::temp_dir().join(format!("tealight-convert-self-{}.gguf", std::process::id()));
    std::fs::write(&path, body.finish().expect("a file")).expect("a file");
    let gguf = std::sync::Arc::new(Gguf::open(&path).expect("a good file"));
    std::fs::remove_file(&path).expect("the file");
    let source = Source::of_gguf(&gguf).expect("a good file");
    let keys: Vec<&str> = source.metadata.iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(keys, ["general.architecture", "a.list", "a.nest", "a.i8", "a.f64", "a.flag"]);
    assert_eq!(source.value("a.i8"), Some(&KeyValue::I8(-3)));
    assert_eq!(source.value("a.list"), Some(&KeyValue::strings(["x", "yz"])));
    assert_eq!(numbers(&source, "w"), [2.0; 64]);
    let mut bytes = Vec::new();
    source.tensors[0].rows_bytes(1..2, &mut bytes).expect("a row");
    assert_eq!(bytes, row);
}
