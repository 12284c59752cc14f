#!/usr/bin/env python3
"""Firefox as a viewer: the page of a running server as a person uses it, and offers that Firefox makes besides.

    firefox.py http://127.0.0.1:8080/

Needs Firefox (Debian: `apt-get install -y --no-install-recommends firefox-esr`, 80 MB; FIREFOX names another) and
websockets from PyPI. No driver: Firefox itself speaks WebDriver BiDi. Says one line a case, exits with 1 if any fails.

In here: starting Firefox with a profile of its own, what the page must show and sound like by getStats, and an
RTCPeerConnection of the test's own for each kind of offer. Conditions are awaited within the page, by events and counts.
"""
import asyncio, json, os, re, shutil, signal, subprocess, sys, tempfile
import websockets

PREFERENCES = {
    # Both ends are on this machine, which a browser does not try by itself.
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    # A microphone and a camera that are not there, and nobody to ask.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    # No plug-in is fetched: without OpenH264 Firefox has VP8 and no H.264.
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-gmpopenh264.enabled": False,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "remote.prefs.recommended": True,
}

LIMIT_S = 600  # of one look into the page: only ends what would fail anyway, as does the limit of each wait in it

LOOK = """
  globalThis.until = async (condition, what, limit = 300000) => {
    for (const end = Date.now() + limit; Date.now() < end; await new Promise((next) => setTimeout(next, 50))) {
      const found = await condition();
      if (found) return found;
    }
    throw new Error(`not in time: ${what}`);
  };
  globalThis.counted = async (pc) => {
    const reports = [...(await pc.getStats()).values()];
    const inbound = (kind) => reports.filter((r) => r.type === 'inbound-rtp' && r.kind === kind)
      .sort((a, b) => (b.packetsReceived ?? 0) - (a.packetsReceived ?? 0))[0] ?? {};
    const [video, audio] = [inbound('video'), inbound('audio')];
    const codec = (of) => reports.find((r) => r.id === of.codecId)?.mimeType ?? null;
    return { at: video.timestamp ?? audio.timestamp ?? 0, frames: video.framesDecoded ?? 0,
      received: video.framesReceived ?? 0, width: video.frameWidth ?? 0, lost: video.packetsLost ?? 0,
      packets: audio.packetsReceived ?? 0, energy: audio.totalAudioEnergy ?? 0,
      samples: audio.totalSamplesReceived ?? 0, codecs: [codec(video), codec(audio)] };
  };
"""

# A viewer of the test's own that can offer as often as it likes.
VIEWER = LOOK + """
  globalThis.viewers ??= [];
  viewers.splice(0).forEach((old) => { old.pc.close(); old.socket.close(); });
  globalThis.viewer = (() => {
    const pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const socket = new WebSocket(`ws://${location.host}/ws`);
    const [messages, waiting] = [[], []];
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === 'webrtc_ice_candidate') pc.addIceCandidate(message.candidate ?? undefined).catch(() => {});
      if (!['session', 'webrtc_answer', 'error'].includes(message.type)) return;
      if (waiting.length) waiting.shift()(message);
      else messages.push(message);
    };
    const next = () => messages.length ? Promise.resolve(messages.shift()) : Promise.race([
      new Promise((resolve) => waiting.push(resolve)),
      new Promise((_, fails) => setTimeout(() => fails(new Error('no answer in time')), 15000))]);
    const joined = next();
    const send = (message) => socket.send(JSON.stringify(message));
    pc.onicecandidate = async ({ candidate }) => {
      await joined;
      if (candidate?.candidate !== '') send({ type: 'webrtc_ice_candidate', candidate });
    };
    const ended = [];
    pc.ontrack = ({ track }) => { track.onended = () => ended.push(track.kind); };
    const exchange = async (sdp) => { await joined; send({ type: 'webrtc_offer', sdp }); return next(); };
    return { pc, socket, send, exchange, ended,
      async negotiate(edit = (sdp) => sdp, gathered = false) {
        await pc.setLocalDescription();
        if (gathered) await until(() => pc.iceGatheringState === 'complete', 'gathering');
        const answer = await exchange(edit(pc.localDescription.sdp));
        if (answer.type === 'error') {
          await pc.setLocalDescription({ type: 'rollback' });
          throw new Error(`${answer.code}: ${answer.message}`);
        }
        await pc.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
        return answer.sdp;
      },
      /** That more of each of these comes from now on. */
      async plays(...kinds) {
        const before = await counted(pc);
        const came = (now) => (!kinds.includes('video') || now.frames >= before.frames + 15)
          && (!kinds.includes('audio') || now.packets >= before.packets + 30);
        let now;
        await until(async () => came(now = await counted(pc)), `${kinds}`, 15000).catch((error) => {
          throw new Error(`${error.message}; ${pc.connectionState} ${JSON.stringify([before, now])}`);
        });
        return true;
      },
    };
  })();
  viewers.push(viewer);
  const { pc } = viewer;
  const wants = (...kinds) => kinds.forEach((kind) => pc.addTransceiver(kind, { direction: 'recvonly' }));
  const camera = async () => (await navigator.mediaDevices.getUserMedia({ video: true })).getTracks()[0];
  const microphone = async () => (await navigator.mediaDevices.getUserMedia({ audio: true })).getTracks()[0];
  const answered = (sdp) => sdp.split(/^m=/m).slice(1).map((line) => `${line.split(' ')[0]} ${
    line.split(' ')[1] === '0' ? 'rejected' : /^a=(sendonly|sendrecv|recvonly|inactive)/m.exec(line)[1]}`).join(', ');
  const both = async (answer) => { await viewer.plays('video', 'audio'); return answered(answer); };
"""

# What each kind of offer must come to: the m-lines of the last answer, or what the case says.
OFFERS = [
    ("video and sound", "wants('video', 'audio'); return both(await viewer.negotiate())", "video sendonly, audio sendonly"),
    ("sound first", "wants('audio', 'video'); return both(await viewer.negotiate())", "audio sendonly, video sendonly"),
    ("gathered before it offers", "wants('video', 'audio'); return both(await viewer.negotiate((s) => s, true))",
     "video sendonly, audio sendonly"),
    ("sound only", "wants('audio'); const a = await viewer.negotiate(); await viewer.plays('audio'); return answered(a)",
     "audio sendonly"),
    ("picture only", "wants('video'); const a = await viewer.negotiate(); await viewer.plays('video'); return answered(a)",
     "video sendonly"),
    ("a camera first", "pc.addTransceiver(await camera(), { direction: 'sendonly' }); wants('video', 'audio'); "
     "return both(await viewer.negotiate())", "video inactive, video sendonly, audio sendonly"),
    ("a camera both ways before the wanted line", "pc.addTransceiver(await camera(), { direction: 'sendrecv' }); "
     "wants('video', 'audio'); return both(await viewer.negotiate())", "video inactive, video sendonly, audio sendonly"),
    ("a camera both ways is the only line", "pc.addTransceiver(await camera(), { direction: 'sendrecv' }); "
     "wants('audio'); return both(await viewer.negotiate())", "video sendonly, audio sendonly"),
    ("a camera and a microphone by addTrack", "pc.addTrack(await camera()); pc.addTrack(await microphone()); "
     "return both(await viewer.negotiate())", "video sendonly, audio sendonly"),
    ("a microphone on a line of its own", "pc.addTransceiver(await microphone(), { direction: 'sendonly' }); "
     "wants('video', 'audio'); return both(await viewer.negotiate())", "audio inactive, video sendonly, audio sendonly"),
    ("a microphone and a camera first", "pc.addTransceiver(await microphone(), { direction: 'sendonly' }); "
     "pc.addTransceiver(await camera(), { direction: 'sendonly' }); wants('audio', 'video'); "
     "return both(await viewer.negotiate())", "audio inactive, video inactive, audio sendonly, video sendonly"),
    ("no group and one line", "wants('audio'); "
     "const a = await viewer.negotiate((sdp) => sdp.replace(/a=group.*\\r\\n/, '')); await viewer.plays('audio'); "
     "return `${answered(a)} ${a.includes('a=group')}`", "audio sendonly true"),
    ("two pictures", "wants('video', 'video', 'audio'); return both(await viewer.negotiate())",
     "video sendonly, video inactive, audio sendonly"),
    ("a data channel, which Firefox puts last", "pc.createDataChannel('x'); wants('video', 'audio'); return both(await viewer.negotiate())",
     "video sendonly, audio sendonly, application rejected"),
    ("a data channel behind", "wants('video', 'audio'); pc.createDataChannel('x'); "
     "return both(await viewer.negotiate())", "video sendonly, audio sendonly, application rejected"),
    ("no last line break", "wants('video', 'audio'); "
     "return both(await viewer.negotiate((sdp) => sdp.trimEnd()))",
     "video sendonly, audio sendonly"),
    ("no direction is both ways", "wants('video', 'audio'); "
     "return both(await viewer.negotiate((sdp) => sdp.replaceAll('a=recvonly\\r\\n', '')))", None),
    ("a refused second offer", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "const { code } = await viewer.exchange('v=0\\r\\n'); await both(''); return code", "bad_sdp"),
    ("a second offer of nothing to receive is refused",
     "wants('video', 'audio'); const first = await viewer.negotiate(); await both(first); "
     "const { code } = await viewer.exchange(pc.localDescription.sdp.replaceAll('a=recvonly', 'a=inactive')); "
     "await both(''); return code", "offer_not_receivable"),
    ("the same offer again", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "return both(await viewer.negotiate())", "video sendonly, audio sendonly"),
    ("a data channel later", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "pc.createDataChannel('x'); return both(await viewer.negotiate())", "video sendonly, audio sendonly, application rejected"),
    ("a camera later", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "pc.addTransceiver(await camera(), { direction: 'sendonly' }); return both(await viewer.negotiate())",
     "video sendonly, audio sendonly, video inactive"),
    ("a camera by addTrack later", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "pc.addTrack(await camera()); return both(await viewer.negotiate())", "video sendonly, audio sendonly"),
    ("the picture paused and taken up again", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "const [video] = pc.getTransceivers(); video.direction = 'inactive'; await viewer.negotiate(); "
     "await viewer.plays('audio'); video.direction = 'recvonly'; return both(await viewer.negotiate())",
     "video sendonly, audio sendonly"),
    # Browsers begin another transport then, with the ufrag of the one before.
    ("the picture stopped for good", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "pc.getTransceivers()[0].stop(); const said = await viewer.negotiate().catch((error) => error.message); "
     "await viewer.plays('audio'); return said.split(':')[0]", "negotiation_failed"),
    ("the sound stopped for good", "wants('video', 'audio'); await viewer.negotiate(); await both(''); "
     "pc.getTransceivers()[1].stop(); const answer = await viewer.negotiate(); await viewer.plays('video'); "
     "return answered(answer)", "video sendonly, audio rejected"),
    ("the sound is added later", "wants('video'); await viewer.negotiate(); await viewer.plays('video'); "
     "wants('audio'); const said = await viewer.negotiate().catch((error) => error.message.split(':')[0]); "
     "await viewer.plays('video'); return said", "negotiation_failed"),
    ("restartIce()", "wants('video', 'audio'); await viewer.negotiate(); await both(''); pc.restartIce(); "
     "const said = await viewer.negotiate().catch((error) => error.message.split(':')[0]); await both(''); "
     "return said", "negotiation_failed"),
    ("another RTCPeerConnection over the same socket", "wants('video', 'audio'); await viewer.negotiate(); "
     "await both(''); const other = new RTCPeerConnection(); viewers.push({ pc: other, socket: viewer.socket }); "
     "for (const kind of ['video', 'audio']) other.addTransceiver(kind, { direction: 'recvonly' }); "
     "await other.setLocalDescription(); await until(() => other.iceGatheringState === 'complete', 'gathering'); "
     "const answer = await viewer.exchange(other.localDescription.sdp); "
     "await other.setRemoteDescription({ type: 'answer', sdp: answer.sdp }); "
     "await until(async () => (await counted(other)).frames > 15, 'frames of the other'); return answered(answer.sdp)",
     "video sendonly, audio sendonly"),
]

# The page: what is counted between two moments.
PAGE = LOOK + """
  const peer = () => mouthpiece.peerConnection;
  globalThis.live = async () => {
    await until(() => globalThis.mouthpiece?.state === 'connected', 'connected');
    await until(async () => (await counted(peer())).frames >= 10, 'frames');
  };
  globalThis.between = async (ends) => {
    const before = await counted(peer());
    await ends();
    const after = await counted(peer());
    const seconds = (after.at - before.at) / 1000;
    return { seconds, fps: (after.frames - before.frames) / seconds, power: (after.energy - before.energy) / seconds,
      packets: (after.packets - before.packets) / seconds, lost: after.lost, width: after.width,
      codecs: after.codecs, size: `${document.querySelector('video').videoWidth}` };
  };
  globalThis.say = (text) => {
    const field = document.getElementById('message');
    field.value = `Say: ${text}`;
    field.dispatchEvent(new Event('input'));
    document.getElementById('send').click();
  };
  globalThis.heardOf = (type) => new Promise((resolve) =>
    mouthpiece.addEventListener(type, ({ detail }) => resolve(detail), { once: true }));
  globalThis.pause = (ms) => new Promise((next) => setTimeout(next, ms));
"""

LONG = ("Good morning. My name is on the door, and my face is on your screen. I can tell you about the weather, about "
        "the people in this house, or about the book that I have just begun.")


class Firefox:
    """One Firefox with a profile of its own; leaving ends it and all that it started."""

    async def __aenter__(self):
        program = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
        if program is None:
            sys.exit("no firefox-esr and no firefox on the PATH: apt-get install firefox-esr, or set FIREFOX")
        self.profile = tempfile.mkdtemp()
        with open(os.path.join(self.profile, "user.js"), "w") as file:
            for name, value in PREFERENCES.items():
                file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
        self.process = subprocess.Popen(
            [program, "--headless", "--no-remote", "--profile", self.profile, "--remote-debugging-port", "0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.numbers, self.replies = 0, {}
        try:
            await self.connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def connect(self):
        address = await asyncio.wait_for(asyncio.to_thread(self.address), LIMIT_S)
        # stderr is read on, so that a browser with much to say does not stand still.
        self.reading = asyncio.ensure_future(asyncio.to_thread(self.process.stderr.read))
        self.socket = await websockets.connect(f"{address}/session", max_size=None)
        self.listening = asyncio.ensure_future(self.listen())
        await self.ask("session.new", capabilities={})
        tree = await self.ask("browsingContext.getTree")
        self.context = tree["contexts"][0]["context"]

    def address(self):
        for line in self.process.stderr:
            if found := re.search(r"listening on (ws://\S+)", line):
                return found[1]
        raise RuntimeError("Firefox ended before it listened")

    async def listen(self):
        async for text in self.socket:
            message = json.loads(text)
            if reply := self.replies.pop(message.get("id"), None):
                reply.set_result(message)

    async def ask(self, method, **parameters):
        self.numbers += 1
        reply = self.replies[self.numbers] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"id": self.numbers, "method": method, "params": parameters}))
        message = await asyncio.wait_for(reply, LIMIT_S)
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
        return message["result"]

    async def open(self, url):
        await self.ask("browsingContext.navigate", context=self.context, url=url, wait="complete")

    async def run(self, body):
        """What a JavaScript function body returns, by way of JSON."""
        said = await self.ask("script.evaluate", target={"context": self.context}, awaitPromise=True, userActivation=True,
                              expression=f"(async () => {{ {body} }})().then((value) => JSON.stringify(value ?? null))")
        if said["type"] == "exception":
            raise RuntimeError(said["exceptionDetails"]["text"])
        return json.loads(said["result"]["value"])

    async def __aexit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if hasattr(self, "listening"):
            self.listening.cancel()
            await self.reading
        shutil.rmtree(self.profile, ignore_errors=True)


def must(condition, found):
    if not condition:
        raise RuntimeError(f"not so: {found}")


async def speaks(firefox):
    """A sentence from its first sound to its end."""
    played = await firefox.run(f"""
      const [started, ended] = [heardOf('speech_started'), heardOf('speech_ended')];
      say({json.dumps(LONG)});
      await started;
      return between(() => ended);""")
    must(24 <= played["fps"] <= 26 and played["power"] > 1e-3 and played["seconds"] > 5, played)
    must(played["codecs"] == ["video/VP8", "audio/opus"] and played["width"] > 0, played)
    return played


async def page(firefox, url):
    await firefox.open(url)
    await firefox.run(PAGE + "await live(); document.getElementById('unmute').click();")
    yield "the page is live", await firefox.run("return between(() => pause(3000))")
    yield "the page speaks", await speaks(firefox)
    stopped = await firefox.run(f"""
      const [started, ended] = [heardOf('speech_started'), heardOf('speech_ended')];
      say({json.dumps(LONG)});
      await started;
      await until(async () => (await between(() => pause(300))).power > 1e-3, 'sound');
      document.getElementById('stop').click();
      const end = await ended;
      await pause(500); // what was on its way has been heard
      return {{ interrupted: end.interrupted, ...await between(() => pause(1500)) }};""")
    must(stopped["interrupted"] is True and stopped["power"] < 1e-5 and 23.5 <= stopped["fps"] <= 26.5, stopped)
    yield "the page interrupts", stopped
    await firefox.ask("browsingContext.reload", context=firefox.context, wait="complete")
    await firefox.run(PAGE + "await live(); document.getElementById('unmute').click();")
    yield "the page speaks after a reload", await speaks(firefox)
    heard = await firefox.run("""
      await mouthpiece.switchMicrophone(true);
      return { on: mouthpiece.microphone, ...await between(() => pause(1500)) };""")
    must(heard["on"] is True and 23.5 <= heard["fps"] <= 26.5, heard)
    yield "the page's microphone", heard


async def main(url):
    failed = 0
    async with Firefox() as firefox:
        if len(sys.argv) < 3:
            try:
                async for name, found in page(firefox, url):
                    print(f"{name}: ok {json.dumps(found)}", flush=True)
            except Exception as error:
                failed += 1
                print(f"page: FAILED {error}", flush=True)
        # Any page of the server's will do, best one that is no viewer itself.
        await firefox.open(url + "style.css")
        for name, body, wanted in OFFERS:
            if len(sys.argv) > 2 and sys.argv[2] not in name:
                continue
            try:
                found = await firefox.run(VIEWER + body)
                must(wanted is None or found == wanted, found)
                print(f"{name}: ok {found}", flush=True)
            except Exception as error:
                failed += 1
                print(f"{name}: FAILED {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
