//! MuseTalk's network in libtorch: mel, audio encoder, positional encoding, UNet, autoencoder. The only home of `tch`.
