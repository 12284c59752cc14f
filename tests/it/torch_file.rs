//! Writes what `torch.save(model.state_dict(), path)` writes: a zip archive of a pickle and the tensors' numbers.
//!
//! That real files are like this, `tests/fixtures/checkpoints` and its tests make sure of.

use std::path::Path;

use tch::{Kind, Tensor};

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn integer(pickle: &mut Vec<u8>, value: usize) {
    pickle.push(b'J');
    pickle.extend(i32::try_from(value).unwrap().to_le_bytes());
}

fn tuple(pickle: &mut Vec<u8>, values: &[usize]) {
    pickle.push(b'(');
    values.iter().for_each(|&value| integer(pickle, value));
    pickle.push(b't');
}

pub fn write(path: &Path, tensors: &[(String, Tensor)]) {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    let mut members = Vec::new();
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let (storage, size) = match tensor.kind() {
            Kind::Float => ("FloatStorage", 4),
            Kind::Half => ("HalfStorage", 2),
            Kind::Int64 => ("LongStorage", 8),
            kind => panic!("{kind:?} is not written here"),
        };
        let shape: Vec<usize> = tensor.size().iter().map(|&size| usize::try_from(size).unwrap()).collect();
        let strides: Vec<usize> = (1..=shape.len()).map(|from| shape[from..].iter().product()).collect();
        let count = tensor.numel();
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{storage}\n").as_bytes());
        text(&mut pickle, &index.to_string());
        text(&mut pickle, "cpu");
        integer(&mut pickle, count);
        pickle.extend(b"tQ");
        integer(&mut pickle, 0);
        tuple(&mut pickle, &shape);
        tuple(&mut pickle, &strides);
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        let mut numbers = vec![0; count * size];
        tensor.contiguous().copy_data_u8(&mut numbers, count);
        members.push((format!("unet/data/{index}"), numbers));
    }
    pickle.extend(b"u.");
    members.insert(0, ("unet/data.pkl".to_owned(), pickle));
    std::fs::write(path, archive(&members)).unwrap();
}

/// A zip archive of members that are stored as they are, without the checksums, which PyTorch may leave out too.
fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let start = u32::try_from(file.len()).unwrap();
        let (name, length) = (name.as_bytes(), u32::try_from(content.len()).unwrap().to_le_bytes());
        let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
        file.extend([b"PK\x03\x04".as_slice(), &[0; 14], &length, &length, &name_length, &[0; 2], name].concat());
        file.extend(content);
        let entry =
            [b"PK\x01\x02".as_slice(), &[0; 16], &length, &length, &name_length, &[0; 12], &start.to_le_bytes()];
        directory.extend([entry.concat().as_slice(), name].concat());
    }
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    let (start, length) = (u32::try_from(file.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    file.extend(directory);
    let sizes = [length.to_le_bytes(), start.to_le_bytes()].concat();
    file.extend([b"PK\x05\x06".as_slice(), &[0; 4], &count, &count, &sizes, &[0; 2]].concat());
    file
}
