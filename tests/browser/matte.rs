//! An avatar that is cut out, over the page: by the shader, in JavaScript, after a lost context, and in a film.
//!
//! "cut" is the demo avatar, opaque within a circle, so it is known where the page must be seen and where the avatar.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::chromium::{Chromium, Page};
use super::server::Server;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
const FRAMES: usize = 8;
const SIDE: i32 = 512;
/// Of the circle, in pixels of the avatar.
const MIDDLE: [i32; 2] = [256, 270];
const RADIUS: i32 = 200;
/// What is seen behind it.
const BEHIND: [u8; 3] = [10, 200, 40];

struct Picture {
    width: usize,
    bytes: Vec<u8>,
    channels: usize,
}

impl Picture {
    fn read(path: &Path) -> Self {
        let mut decoder = png::Decoder::new(BufReader::new(File::open(path).unwrap()));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        Self { width: info.width as usize, bytes, channels: info.color_type.samples() }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let start = (y * self.width + x) * self.channels;
        self.bytes[start..start + 3].try_into().unwrap()
    }
}

fn away(x: i32, y: i32) -> i32 {
    (f64::from(x - MIDDLE[0]).hypot(f64::from(y - MIDDLE[1]))) as i32
}

/// A home with "cut" and the demo avatar.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        std::os::unix::fs::symlink(Path::new(PROJECT).join(name), home.path().join(name)).unwrap();
    };
    std::fs::create_dir_all(home.path().join("models/avatars/cut/frames")).unwrap();
    for name in ["pipelines", "models/demo", "models/voices", "models/avatars/demo"] {
        link(name);
    }
    let demo = Path::new(PROJECT).join("models/avatars/demo");
    let cut = home.path().join("models/avatars/cut");
    for name in ["latents.safetensors", "mask.png"] {
        std::os::unix::fs::symlink(demo.join(name), cut.join(name)).unwrap();
    }
    let boxes: Vec<serde_json::Value> =
        serde_json::from_slice(&std::fs::read(demo.join("boxes.json")).unwrap()).unwrap();
    std::fs::write(cut.join("boxes.json"), serde_json::to_vec(&boxes[..FRAMES]).unwrap()).unwrap();
    for index in 0..FRAMES {
        let name = format!("frames/{index:04}.png");
        let own = Picture::read(&demo.join(&name));
        let pixels = (0..SIDE * SIDE).map(|at| (at % SIDE, at / SIDE));
        let rgba = pixels.flat_map(|(x, y)| {
            let [red, green, blue] = own.at(x as usize, y as usize);
            [red, green, blue, if away(x, y) < RADIUS { 255 } else { 0 }]
        });
        let file = BufWriter::new(File::create(cut.join(&name)).unwrap());
        let mut encoder = png::Encoder::new(file, SIDE as u32, SIDE as u32);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_compression(png::Compression::Fast);
        encoder.write_header().unwrap().write_image_data(&rgba.collect::<Vec<u8>>()).unwrap();
    }
    let manifest = format!(
        "id = \"cut\"\nname = \"Cut\"\nmodel = \"demo\"\nmatte = \"own\"\nwidth = {SIDE}\nheight = {SIDE}\nfps = 25\n\
         cycle = \"ping_pong\"\ndecode_rows = [1, 15]\nlicence = \"MIT OR Apache-2.0\"\n[voice]\n\
         engine = \"espeak-ng\"\nlanguage = \"en-us\"\n"
    );
    std::fs::write(cut.join("avatar.toml"), manifest).unwrap();
    home
}

/// Puts a known colour behind the avatar and looks at the page: outside of the circle that colour alone, inside the avatar.
async fn looks_cut_out(page: &Page, name: &str) {
    page.wait_for("document.querySelector('#frame > canvas:not([hidden])')").await;
    let frame = page
        .evaluate(&format!(
            "(() => {{ const frame = document.getElementById('frame'); frame.style.background = 'rgb({})'; \
             frame.style.borderRadius = 0; \
             for (const element of frame.children) if (!element.matches('canvas, video')) element.style.visibility = 'hidden'; \
             const {{ x, y, width }} = frame.getBoundingClientRect(); return [x, y, width]; }})()",
            BEHIND.map(|level| level.to_string()).join(",")
        ))
        .await;
    let [left, top, width] = [0, 1, 2].map(|at| frame[at].as_f64().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = match std::env::var("SCREENSHOTS") {
        Ok(folder) => PathBuf::from(folder).join(format!("matte-{name}.png")),
        Err(_) => folder.path().join("page.png"),
    };
    page.sees(3).await;
    page.screenshot(&path).await;
    let seen = Picture::read(&path);
    let own = Picture::read(&Path::new(PROJECT).join("models/avatars/demo/frames/0000.png"));
    let (mut outside, mut inside) = (0, 0);
    for (x, y) in (4..SIDE - 4).step_by(3).flat_map(|x| (4..SIDE - 4).step_by(3).map(move |y| (x, y))) {
        let place = |at: i32, start: f64| (start + (f64::from(at) + 0.5) * width / f64::from(SIDE)) as usize;
        let (pixel, away) = (seen.at(place(x, left), place(y, top)), away(x, y));
        let off = |wanted: [u8; 3]| pixel.iter().zip(wanted).map(|(is, was)| is.abs_diff(was)).max().unwrap();
        // As far as an encoder's blur reaches.
        if away > RADIUS + 8 {
            assert!(off(BEHIND) <= 3, "{name}: {x},{y} must be the page, is {pixel:?}");
            outside += 1;
        } else if away < RADIUS - 8 {
            // The head moves a little.
            inside += i32::from(off(own.at(x as usize, y as usize)) <= 40);
        }
    }
    let circle = std::f64::consts::PI * f64::from(RADIUS - 8).powi(2) / 9.0;
    assert!(outside > 10_000 && f64::from(inside) > 0.9 * circle, "{name}: {outside} {inside} of {circle}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_avatar_that_is_cut_out_is_seen_over_the_page() {
    let chromium = Chromium::launch().await;
    let home = home();
    let server = Server::start_at(home.path(), &["--avatar", "cut"]).await;
    let page = chromium.page(&server.url("")).await;
    page.wait_until_live().await;
    page.resize(1280, 900, false).await;
    looks_cut_out(&page, "shader").await;
    let composer = "document.querySelector('#frame > canvas').dataset.composer";
    assert_eq!(page.evaluate(composer).await, "webgl");
    assert_eq!(page.evaluate("document.getElementById('frame').dataset.backdrop").await, "studio");
    page.evaluate("document.getElementById('backdrop').click()").await;
    assert_eq!(page.evaluate("document.getElementById('frame').dataset.backdrop").await, "dusk");
    // The frame has the shape of the colours alone.
    let square = "(() => { const { width, height } = document.getElementById('frame').getBoundingClientRect(); \
        return Math.abs(width / height - 1) < 0.01; })()";
    assert_eq!(page.evaluate(square).await, true);
    // A driver that starts anew takes all contexts with it.
    page.evaluate(
        "(() => { const gl = document.querySelector('#frame > canvas').getContext('webgl'); \
        window.lost = gl.getExtension('WEBGL_lose_context'); lost.loseContext(); })()",
    )
    .await;
    page.sees(3).await;
    page.evaluate("lost.restoreContext()").await;
    page.wait_for("!document.querySelector('#frame > canvas').getContext('webgl').isContextLost()").await;
    looks_cut_out(&page, "restored").await;
    // One that is not cut out takes over, and the video shows itself.
    page.evaluate("mouthpiece.swapAvatar('demo')").await;
    page.wait_for("!document.querySelector('#frame > canvas') && mouthpiece.avatar.id === 'demo'").await;
    let video = "getComputedStyle(document.getElementById('avatar-video')).opacity";
    page.wait_for(&format!("{video} === '1' && document.getElementById('avatar-video').videoWidth === 512")).await;
    assert_eq!(page.evaluate("document.getElementById('backdrop').hidden").await, true);
    // And back, where there is no WebGL.
    page.evaluate(
        "(() => { const own = HTMLCanvasElement.prototype.getContext; \
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) { \
        return kind === 'webgl' ? null : own.call(this, kind, ...more); }; mouthpiece.swapAvatar('cut'); })()",
    )
    .await;
    page.wait_for(&format!("document.querySelector('#frame > canvas') && {composer} === '2d'")).await;
    looks_cut_out(&page, "pixels").await;
    assert_eq!(page.console_errors(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_with_an_alpha_channel_is_transparent_in_a_browser() {
    let chromium = Chromium::launch().await;
    let home = home();
    let film = home.path().join("film.webm");
    let mut render = Command::new(env!("CARGO_BIN_EXE_mouthpiece"));
    render.arg("--home").arg(home.path()).args(["render", "--avatar", "cut", "--text", "Hello there.", "--alpha"]);
    let ran = render.arg("--out").arg(&film).kill_on_drop(true).output().await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let server = Server::start_at(home.path(), &["--avatar", "demo"]).await;
    let page = chromium.page(&server.url("client.js")).await;
    let bytes: Vec<String> = std::fs::read(&film).unwrap().iter().map(u8::to_string).collect();
    page.evaluate(
        "window.film = document.createElement('video'); film.muted = true; window.bytes = []; \
         window.look = () => { const canvas = document.createElement('canvas'); \
         [canvas.width, canvas.height] = [512, 512]; const context = canvas.getContext('2d'); \
         context.drawImage(film, 0, 0); \
         return [[20, 20], [256, 40], [256, 270], [440, 400]].map(([x, y]) => context.getImageData(x, y, 1, 1).data[3]); }; true",
    )
    .await;
    for part in bytes.chunks(20_000) {
        page.evaluate(&format!("bytes.push(new Uint8Array([{}])), true", part.join(","))).await;
    }
    page.evaluate("film.src = URL.createObjectURL(new Blob(bytes, { type: 'video/webm' })), true").await;
    page.wait_for("film.readyState >= 2").await;
    let length = page.evaluate("film.duration").await.as_f64().unwrap();
    // At the beginning, behind a sought key frame, and at the end.
    for at in [0.0, length / 2.0, length - 0.1] {
        page.evaluate(&format!(
            "window.sought = false; film.onseeked = () => {{ sought = true; }}; film.currentTime = {at}; true"
        ))
        .await;
        page.wait_for("sought && film.readyState >= 2").await;
        let alphas = page.evaluate("look()").await;
        let alphas: Vec<u64> = (0..4).map(|index| alphas[index].as_u64().unwrap()).collect();
        assert!(alphas[0] <= 6 && alphas[1] <= 6 && alphas[2] >= 249 && alphas[3] <= 6, "at {at} s: {alphas:?}");
    }
    assert_eq!(page.evaluate("[film.videoWidth, film.videoHeight].join()").await, "512,512");
    server.stop().await;
}
