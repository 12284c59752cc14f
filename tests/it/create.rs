//! `mouthpiece avatars create`: from a photo or a clip of a drawn face to an avatar that speaks, and what is refused.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use mouthpiece::media::{Clip, ClipOptions};
use mouthpiece::picture::png;
use serde_json::Value;

use crate::cli::program;
use crate::kit::drawn_face::{Bearing, Person, draw};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// A home with the models that come with the project, and no avatars.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("models/avatars")).unwrap();
        for name in ["pipelines", "models/demo", "models/face", "models/portrait", "models/voices"] {
            symlink(Path::new(PROJECT).join(name), home.path().join(name)).unwrap();
        }
        Self(home)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.current_dir(self.0.path()).arg("--home").arg(self.0.path()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn create(&self, id: &str, from: &Path, more: &[&str]) -> Command {
        let from = from.to_str().unwrap();
        let given = ["--licence", "CC0", "--consent", "Drawn by a program.", "--json"];
        self.command(&[&["avatars", "create", id, "--from", from][..], &given, more].concat())
    }

    /// What lies in the folder of all avatars, hidden things too.
    fn avatars(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("models/avatars")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// One line of what went wrong, of wrong input.
fn refused(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = told.lines().last().unwrap_or_default().to_owned();
    assert!(output.status.code() == Some(2) && last.starts_with("mouthpiece: "), "{:?} {told}", output.status);
    last
}

fn drawn() -> PathBuf {
    Path::new(PROJECT).join("models/avatars/demo/frames/0000.png")
}

/// A film of the drawn avatar, which is a clip to whoever did not draw it.
fn clip(home: &Home) -> PathBuf {
    let film = home.path("clip.mp4");
    symlink(Path::new(PROJECT).join("models/avatars/demo"), home.path("models/avatars/demo")).unwrap();
    let text = "A clip of a face that speaks for some time.";
    json(&home.run(&["render", "--avatar", "demo", "--text", text, "--json", "--out", film.to_str().unwrap()]));
    std::fs::remove_file(home.path("models/avatars/demo")).unwrap();
    film
}

#[test]
fn a_photo_becomes_an_avatar_that_is_whole_and_speaks() {
    let home = Home::new();
    let made = json(&home.create("anna", &drawn(), &[]).output().unwrap());
    assert_eq!((&made["kind"], &made["model"], &made["frames"]), (&"photo".into(), &"portrait".into(), &1.into()));
    assert!(made["peak_memory_mb"].as_u64().unwrap() < 700, "{made}");
    assert_eq!(home.avatars(), ["anna"]);
    let shown = json(&home.run(&["avatars", "show", "anna", "--json"]));
    assert_eq!((&shown["consent"], &shown["source"]["file"]), (&"Drawn by a program.".into(), &"0000.png".into()));
    assert!(home.run(&["avatars", "check", "anna"]).status.success());
    let film = home.path("film.mp4");
    let out = film.to_str().unwrap();
    let film = json(&home.run(&["render", "--avatar", "anna", "--text", "Hello there.", "--json", "--out", out]));
    assert!(film["mouths"].as_u64().unwrap() >= 10, "{film}");
    // The same photo gives the same avatar, byte for byte.
    json(&home.create("twin", &drawn(), &[]).output().unwrap());
    for name in ["source.png", "mask.png", "mesh.safetensors", "portrait.safetensors", "preview.png"] {
        let bytes = |id: &str| std::fs::read(home.path("models/avatars").join(id).join(name)).unwrap();
        assert_eq!(bytes("anna"), bytes("twin"), "{name}");
    }
}

/// A drawn face before a green screen, cut out of it, and once more by the alpha channel that this gives.
#[test]
fn a_photo_is_cut_out_of_a_plain_background_or_by_its_own_alpha_channel() {
    let home = Home::new();
    let person = Person { background: [48, 176, 72], glasses: None, ..Person::number(3) };
    let picture = draw(&person, &Bearing::default(), 400, 170.0).picture;
    let photo = home.path("green.png");
    png::write_rgb(&photo, 400, 400, &picture.rgb).unwrap();
    json(&home.create("plain", &photo, &["--alpha", "plain", "--whole"]).output().unwrap());
    let shown = json(&home.run(&["avatars", "show", "plain", "--json"]));
    assert_eq!((&shown["matte"], &shown["width"]), (&"plain".into(), &400.into()));
    let source = home.path("models/avatars/plain/source.png");
    let cutout = png::read_cutout(&source).unwrap();
    let alpha = cutout.matte.unwrap().alpha;
    assert_eq!((alpha[400 * 4 + 4], alpha[400 * 200 + 200]), (0, 255));
    // Nothing of the screen is left behind the edge either.
    let green = cutout.picture.rgb.chunks(3).filter(|rgb| rgb[1] > rgb[0].max(rgb[2]).saturating_add(40)).count();
    assert!(green < 40, "{green} green pixels");
    json(&home.create("own", &source, &["--alpha", "own", "--whole"]).output().unwrap());
    assert!(home.run(&["avatars", "check"]).status.success());
    let own = png::read_cutout(&home.path("models/avatars/own/source.png")).unwrap().matte.unwrap().alpha;
    assert_eq!(own, alpha);

    let film = home.path("film.webm");
    let out = film.to_str().unwrap();
    let text = ["render", "--avatar", "plain", "--text", "Hello.", "--json", "--alpha", "--out", out];
    let made = json(&home.run(&text));
    let mut clip = Clip::open(&film, &ClipOptions { alpha: true, ..ClipOptions::default() }).unwrap();
    assert_eq!((clip.info().width, clip.info().height), (400, 400));
    let mut frames = 0;
    while let Some(frame) = clip.next_cutout().unwrap() {
        let alpha = frame.matte.unwrap().alpha;
        assert!(alpha[400 * 4 + 4] < 8 && alpha[400 * 200 + 200] > 247, "frame {frames}");
        frames += 1;
    }
    assert_eq!(made["frames"], frames);
}

#[test]
fn what_cannot_be_cut_out_is_refused_in_words() {
    let home = Home::new();
    let person = Person { background: [48, 176, 72], ..Person::number(3) };
    let mut picture = draw(&person, &Bearing::default(), 400, 170.0).picture;
    for (at, pixel) in picture.rgb.chunks_mut(3).enumerate().filter(|(at, _)| at / 400 < 70) {
        pixel.copy_from_slice(&[(at % 400 * 7 % 256) as u8, (at / 400 * 29 % 256) as u8, (at % 91 * 2) as u8]);
    }
    let photo = home.path("busy.png");
    png::write_rgb(&photo, 400, 400, &picture.rgb).unwrap();
    let error = refused(&home.create("busy", &photo, &["--alpha", "plain", "--whole"]).output().unwrap());
    assert!(error.contains("busy.png: has no plain background"), "{error}");
    let error = refused(&home.create("busy", &photo, &["--alpha", "own"]).output().unwrap());
    assert!(error.contains("busy.png") && error.contains("no alpha channel"), "{error}");
    symlink(Path::new(PROJECT).join("models/avatars/demo"), home.path("models/avatars/demo")).unwrap();
    let error = refused(&home.run(&["render", "--text", "Hello.", "--alpha", "--out", "film.webm"]));
    assert!(error.contains("avatar \"demo\" is not cut out"), "{error}");
    assert_eq!(home.avatars(), ["demo"]);
}

#[test]
fn a_clip_becomes_an_avatar_that_goes_round_and_speaks() {
    let home = Home::new();
    let clip = clip(&home);
    let made = json(&home.create("anna", &clip, &["--size", "320"]).output().unwrap());
    assert_eq!((&made["kind"], &made["width"], &made["height"]), (&"clip".into(), &320.into(), &320.into()));
    assert!(made["frames"].as_u64().unwrap() >= 50 && made["peak_memory_mb"].as_u64().unwrap() < 700, "{made}");
    assert!(home.run(&["avatars", "check", "anna"]).status.success());
    let out = home.path("film.mp4");
    let out = out.to_str().unwrap();
    let film = json(&home.run(&["render", "--avatar", "anna", "--text", "Hello there.", "--json", "--out", out]));
    assert!(film["mouths"].as_u64().unwrap() >= 10, "{film}");

    // Of two that make the same one, one is refused, whichever it is.
    let both = [(), ()].map(|()| home.create("bert", &clip, &["--size", "320", "--closed"]).spawn().unwrap());
    let both = both.map(|child: Child| child.wait_with_output().unwrap());
    let (made, not): (Vec<&Output>, Vec<&Output>) = both.iter().partition(|output| output.status.success());
    assert_eq!((made.len(), not.len()), (1, 1));
    let why = refused(not[0]);
    assert!(why.contains("is being made just now") || why.contains("is there already"), "{why}");

    // Told to stop in the middle, it leaves nothing.
    let before = home.avatars();
    let stopped = home.create("carla", &clip, &[]).spawn().unwrap();
    while home.avatars() == before {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(stopped.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let stopped = stopped.wait_with_output().unwrap();
    assert!(!stopped.status.success(), "it was told to stop");
    assert_eq!(home.avatars(), before);
}

#[test]
fn whatever_is_no_face_is_refused_in_one_line_and_leaves_nothing() {
    let home = Home::new();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(home.path(name), bytes).unwrap();
        home.path(name)
    };
    let whole = std::fs::read(drawn()).unwrap();
    let grey = home.path("grey.png");
    png::write_rgb(&grey, 320, 240, &[128; 320 * 240 * 3]).unwrap();
    for (from, named) in [
        (file("empty.png", b""), "empty.png is empty"),
        (file("clip.mp4", b"This is a text, whatever its name says."), "neither a photo nor a clip"),
        (file("cut.png", &whole[..whole.len() / 3]), "cut.png"),
        (home.path("nowhere.jpg"), "nowhere.jpg cannot be read"),
        (Path::new(PROJECT).join("tests/fixtures/sound"), "is no regular file"),
        (grey, "no face was found"),
    ] {
        let error = refused(&home.create("anna", &from, &[]).output().unwrap());
        assert!(error.contains(named), "{named}: {error}");
        assert!(home.avatars().is_empty(), "{named}: {:?}", home.avatars());
    }
    let found = png::read_rgb(&home.path("anna-refused.png")).unwrap();
    assert_eq!((found.width, found.height), (320, 240), "the picture of what was found");
}

#[test]
fn what_is_asked_for_wrongly_is_named() {
    let home = Home::new();
    let photo = drawn();
    let from = photo.to_str().unwrap();
    json(&home.create("anna", &photo, &[]).output().unwrap());
    for (arguments, named) in [
        (&["avatars", "create", "bert", "--from", from, "--licence", "CC0"][..], "--consent is missing"),
        (&["avatars", "create", "bert", "--from", from, "--consent", "mine"], "--licence is missing"),
        (&["avatars", "create", "bert", "--from", from, "--licence", " ", "--consent", "mine"], "--licence is empty"),
    ] {
        let error = refused(&home.run(arguments));
        assert!(error.contains(named), "{named}: {error}");
    }
    for (id, more, named) in [
        ("anna", &[][..], "avatar \"anna\" is there already"),
        ("../anna", &[], "avatar id"),
        ("bert", &["--face", "3"], "there is no face 3: 1 found"),
        ("bert", &["--model", "nothing"], "model nothing"),
    ] {
        let error = refused(&home.create(id, &photo, more).output().unwrap());
        assert!(error.contains(named), "{named}: {error}");
    }
    assert_eq!(home.avatars(), ["anna"]);
    json(&home.create("anna", &photo, &["--replace", "--still", "--name", "Anna Two"]).output().unwrap());
    let shown = json(&home.run(&["avatars", "show", "anna", "--json"]));
    assert_eq!((&shown["name"], &shown["still"]), (&"Anna Two".into(), &true.into()));
}
