//! Names of tensors that differ from one version of a checkpoint to another.

use super::Checkpoint;

/// The name diffusers has today for a tensor of a checkpoint from before it renamed the attentions' layers.
pub fn current_name(name: &str) -> String {
    const RENAMED: [(&str, &str); 4] =
        [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];
    if !name.contains("mid_block.attentions.") {
        return name.to_owned();
    }
    RENAMED.iter().fold(name.to_owned(), |name, (old, new)| name.replace(old, new))
}

/// What is before the names of the encoder's tensors: nothing if the file holds an encoder alone, else the path to it
/// in a speech recogniser, whose other tensors are not wanted.
pub fn audio_encoder_prefix(file: &Checkpoint) -> &'static str {
    let paths = ["model.encoder.", "encoder."];
    let is_there = |path: &&str| file.tensors().iter().any(|tensor| tensor.name.starts_with(path));
    paths.into_iter().find(is_there).unwrap_or_default()
}
