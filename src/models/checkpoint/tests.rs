//! The reader against files that PyTorch wrote in every dialect, and against damage and malice.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

/// `scripts/make_checkpoint_fixtures.py` wrote these.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// Type, shape and numbers.
type Content = (String, Vec<u64>, Vec<u8>);

/// All files but the hostile ones, with what Python says they hold.
fn expected() -> BTreeMap<String, BTreeMap<String, Content>> {
    let all = bytes("expected.safetensors");
    let mut files: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (name, view) in ::safetensors::SafeTensors::deserialize(&all).unwrap().tensors() {
        let (file, tensor) = name.split_once('/').unwrap();
        let shape = view.shape().iter().map(|&size| size as u64).collect();
        let content = (format!("{:?}", view.dtype()), shape, view.data().to_vec());
        files.entry(file.to_owned()).or_default().insert(tensor.to_owned(), content);
    }
    files
}

fn problem(bytes: Vec<u8>) -> String {
    Checkpoint::from_bytes("a.pth", bytes).unwrap_err().to_string()
}

/// Reads everything that a file has, as a converter does.
fn read_all(bytes: Vec<u8>) -> std::result::Result<usize, CheckpointError> {
    let file = Checkpoint::from_bytes("a.pth", bytes)?;
    file.tensors().iter().try_fold(0, |total, tensor| Ok(total + file.read(tensor)?.len()))
}

#[test]
fn every_dialect_gives_what_python_wrote() {
    let expected = expected();
    assert_eq!(expected.len(), 15);
    for (name, tensors) in expected {
        let file = Checkpoint::open(&fixture(&name)).unwrap();
        let names: Vec<_> = file.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, tensors.keys().collect::<Vec<_>>(), "{name}");
        for tensor in file.tensors() {
            let found = (tensor.dtype.to_string(), tensor.shape.clone(), file.read(tensor).unwrap());
            assert_eq!(found, tensors[&tensor.name], "{name}: {}", tensor.name);
            assert_eq!(tensor.bytes(), found.2.len() as u64, "{name}: {}", tensor.name);
        }
        let dialect = match name.split(['.', '-']).next().unwrap() {
            "legacy" => Dialect::TorchLegacy,
            "plain" => Dialect::Safetensors,
            _ => Dialect::TorchZip,
        };
        assert_eq!(file.dialect(), dialect, "{name}");
    }
}

#[test]
fn a_file_that_names_os_system_is_refused_by_that_name_and_nothing_is_run() {
    let error = Checkpoint::open(&fixture("hostile-os-system.pth")).unwrap_err();
    assert!(matches!(&error.problem, Problem::Global(name) if name == "os.system"), "{error}");
    assert!(error.to_string().contains("hostile-os-system.pth"), "{error}");
    assert!(!PathBuf::from("mouthpiece-ran-this").exists());
    let error = Checkpoint::open(&fixture("hostile-whole-module.pth")).unwrap_err();
    assert!(
        matches!(&error.problem, Problem::Global(name) if name == "torch.nn.modules.container.Sequential"),
        "{error}"
    );
}

#[test]
fn a_bomb_is_refused_before_it_is_read() {
    let error = problem(bytes("hostile-bomb.pth"));
    assert!(error.contains("archive/data.pkl is compressed"), "{error}");
    let error = problem(bytes("hostile-expanded.pth"));
    assert!(error.contains("claim to hold tensors of 4398046511104 bytes"), "{error}");
}

#[test]
fn the_length_of_a_safetensors_header_is_not_taken_for_a_pickle() {
    let header = r#"{"weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    for length in (header.len()..2048).step_by(8).chain([128, 384, 1408]) {
        let file = [&(length as u64).to_le_bytes(), format!("{header:length$}").as_bytes(), &[0; 4]].concat();
        assert_eq!(read_all(file).unwrap_or_else(|error| panic!("a header of {length} bytes: {error}")), 4);
    }
}

#[test]
fn a_file_that_was_cut_anywhere_is_refused() {
    for name in expected().into_keys() {
        let whole = bytes(&name);
        for length in 0..whole.len() {
            let error = read_all(whole[..length].to_vec());
            assert!(error.is_err(), "{name} of {length} of {} bytes", whole.len());
        }
    }
    let error = problem(bytes("plain.safetensors")[..600].to_vec());
    assert!(error.contains("a.pth: ends too early, at 600 bytes"), "{error}");
}

#[test]
fn any_changed_byte_is_an_error_or_other_numbers_but_never_a_panic() {
    for name in expected().into_keys() {
        let whole = bytes(&name);
        for place in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[place] ^= change;
                let read = read_all(changed).unwrap_or(0);
                assert!(read <= 4 * whole.len(), "{name} with byte {place} changed gives {read} bytes");
            }
        }
    }
}

/// A legacy file with this pickle as its object and no numbers.
fn legacy(object: &[u8]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    file.extend(object);
    file.extend(b"\x80\x02].");
    file
}

#[test]
fn no_nesting_repetition_or_cycle_costs_more_than_its_opcodes() {
    assert!(problem(legacy(b"\x80\x02}.")).contains("has no tensors"));
    let deep = [b"\x80\x02)".as_slice(), &[0x85; 1 << 20], b"."].concat();
    assert!(problem(legacy(&deep)).contains("out of all proportion"));
    let wide = [b"\x80\x02".as_slice(), &[b'N'; 1 << 20], b"."].concat();
    assert!(problem(legacy(&wide)).contains("stacks more than 65536 objects"));
    // A list that holds itself.
    assert!(problem(legacy(b"\x80\x02]q\x00h\x00a.")).contains("something other than a tensor"));
    assert!(problem(legacy(b"\x80\x02X\xff\xff\xff\x7f")).contains("ends too early"));
    assert!(problem(legacy(b"\x80\x02(0.")).contains("never put there"));
}

#[test]
fn what_is_no_checkpoint_is_told_from_one() {
    assert!(problem(Vec::new()).contains("ends too early, at 0 bytes"));
    assert!(problem(b"version https://git-lfs.github.com/spec/v1\n".to_vec()).contains("Git LFS pointer"));
    assert!(problem(b"<!DOCTYPE html><html>".to_vec()).contains("neither a safetensors file nor"));
    assert!(problem(b"\x80\x02]q\x00.".to_vec()).contains("no PyTorch checkpoint"));
    assert!(Checkpoint::open(&fixture("absent.pth")).unwrap_err().to_string().contains("absent.pth: No such file"));
    assert!(Checkpoint::open(&fixture("")).unwrap_err().to_string().contains("is not a file"));
}

/// A safetensors file with this header and this many bytes of numbers.
fn safetensors(header: &str, numbers: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), numbers].concat()
}

#[test]
fn a_header_that_does_not_fit_its_numbers_names_the_tensor() {
    let one = |info: &str, numbers| problem(safetensors(&format!("{{\"w\":{info}}}"), numbers));
    assert!(one(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, &[0; 4]).contains("tensor w: [2] of F32"));
    assert!(
        one(r#"{"dtype":"F4","shape":[2],"data_offsets":[0,1]}"#, &[0; 1]).contains("tensor w: holds numbers of type")
    );
    let huge = r#"{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}"#;
    assert!(one(huge, &[0; 4]).contains("tensor w: has an impossible shape"));
    assert!(one(r#"{"dtype":"U8","shape":[2],"data_offsets":[2,4]}"#, &[0; 4]).contains("has a tensor at 2"));
    assert!(one(r#"{"dtype":"U8","shape":[2],"data_offsets":[0,2]}"#, &[0; 4]).contains("goes on behind"));
    assert!(problem(safetensors("{", &[])).contains("damaged header"));
    let mut endless = safetensors("{", &[]);
    endless[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(problem(endless).contains("header of 18446744073709551615 bytes"));
}

fn floats(values: &[f32]) -> Checkpoint {
    let numbers: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let header =
        format!(r#"{{"w":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}}"#, values.len(), numbers.len());
    Checkpoint::from_bytes("a.safetensors", safetensors(&header, &numbers)).unwrap()
}

#[test]
fn weights_are_finite_floats_and_the_error_says_which_is_not() {
    let mut values = vec![1.0; 5000];
    assert!(floats(&values).read_weights(&floats(&values).tensors()[0]).is_ok());
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        values[4321] = wrong;
        let file = floats(&values);
        let error = file.read_weights(&file.tensors()[0]).unwrap_err().to_string();
        assert!(error.contains("a.safetensors: tensor w: number 4321 is") && error.contains("damaged"), "{error}");
    }
    let types = Checkpoint::open(&fixture("types.pth")).unwrap();
    for tensor in types.tensors() {
        let read = types.read_weights(tensor);
        assert_eq!(read.is_ok(), tensor.name.contains("float"), "{}", tensor.name);
        if let Err(error) = read {
            assert!(error.to_string().contains(&format!("tensor {}: holds numbers of type", tensor.name)), "{error}");
        }
    }
}

#[test]
fn floats_change_their_type_by_rounding_and_never_become_infinite() {
    let file = floats(&[1.0, -0.1, 65504.0, 1e-8]);
    let half = file.read_weights_as(&file.tensors()[0], DType::F16).unwrap();
    assert_eq!(half, [0x00, 0x3c, 0x66, 0xae, 0xff, 0x7b, 0, 0]);
    assert_eq!(file.read_weights_as(&file.tensors()[0], DType::F32).unwrap(), file.read(&file.tensors()[0]).unwrap());
    let file = floats(&[1.0, 65520.0]);
    let error = file.read_weights_as(&file.tensors()[0], DType::F16).unwrap_err().to_string();
    assert!(error.contains("tensor w: 65520 is too large for F16"), "{error}");
    for name in ["bfloat16", "float16", "float32", "float64"] {
        let types = Checkpoint::open(&fixture("types.pth")).unwrap();
        let tensor = types.tensors().iter().find(|tensor| tensor.name == name).unwrap();
        let single = types.read_weights_as(tensor, DType::F32).unwrap();
        let values: Vec<f32> = single.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
        let exact = [-1.5, 0.1, 65000.0, 1e-3];
        assert!(
            values.iter().zip(exact).all(|(got, want)| (got - want).abs() <= want.abs() / 200.0),
            "{name}: {values:?}"
        );
    }
}

#[test]
fn a_written_file_reads_the_same_and_replaces_the_old_one_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let tensors = [("b".to_owned(), vec![2, 1], DType::F16), ("a".to_owned(), vec![], DType::F32)];
    let numbers = [vec![1, 2, 3, 4], vec![5, 6, 7, 8]];
    write_safetensors::<CheckpointError>(&path, &tensors, |index| Ok(numbers[index].clone())).unwrap();
    let written = std::fs::read(&path).unwrap();
    let theirs = ::safetensors::SafeTensors::deserialize(&written).unwrap();
    assert_eq!(theirs.tensor("b").unwrap().data(), [1, 2, 3, 4]);
    assert_eq!(theirs.tensor("a").unwrap().data(), [5, 6, 7, 8]);
    let ours = Checkpoint::open(&path).unwrap();
    assert_eq!(ours.read(&ours.tensors()[1]).unwrap(), [1, 2, 3, 4]);
    let broken = |_| Err(CheckpointError { path: "from".to_owned(), problem: Problem::Truncated { length: 0 } });
    assert!(write_safetensors(&path, &tensors, broken).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), written);
}
