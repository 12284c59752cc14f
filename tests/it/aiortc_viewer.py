#!/usr/bin/env python3
"""aiortc as a viewer: offers of every kind to a running server, and whether ten frames and packets of each wanted track come.

    aiortc_viewer.py ws://127.0.0.1:8080/ws

Needs aiortc and websockets from PyPI. Exits with 1 if anything does not come.
"""
import asyncio, json, sys
import websockets
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

async def message(ws, kinds, timeout=300):  # only ends what would fail anyway
    while True:
        m = json.loads(await asyncio.wait_for(ws.recv(), timeout))
        if m["type"] in kinds: return m

async def case(url, name, build, expect, edit=lambda s: s):
    # By default aiortc shares a transport by kind, and forgets the second line of two kinds when all share one.
    policy = RTCBundlePolicy.MAX_BUNDLE if "max-bundle" in name else RTCBundlePolicy.BALANCED
    pc = RTCPeerConnection(RTCConfiguration(bundlePolicy=policy))
    got = {"video": asyncio.Event(), "audio": asyncio.Event()}
    tasks = []
    @pc.on("track")
    def on_track(track):
        async def pull():
            try:
                n = 0
                while n < 10:
                    await track.recv(); n += 1
                got[track.kind].set()
                while True: await track.recv()
            except Exception: pass  # the track has ended
        tasks.append(asyncio.ensure_future(pull()))
    build(pc)
    try:
        async with websockets.connect(url) as ws:
            await message(ws, ["session"])
            await pc.setLocalDescription(await pc.createOffer())
            await ws.send(json.dumps({"type": "webrtc_offer", "sdp": edit(pc.localDescription.sdp)}))
            m = await message(ws, ["webrtc_answer", "error"])
            if m["type"] == "error":
                print(name, "ERROR", m["code"], m["message"][:100]); return expect == "error"
            lines = [l for l in m["sdp"].splitlines() if l.startswith("m=")]
            await pc.setRemoteDescription(RTCSessionDescription(m["sdp"], "answer"))
            ok = True
            for kind in expect:
                try: await asyncio.wait_for(got[kind].wait(), 300)
                except asyncio.TimeoutError: ok = False; print(name, "NO", kind, pc.connectionState, pc.iceConnectionState)
            print(name, "ok" if ok else "FAILED", lines)
            return ok
    except Exception as e:
        print(name, "EXCEPTION", repr(e)); return False
    finally:
        for t in tasks: t.cancel()
        await pc.close()

def recv(pc, *kinds):
    for k in kinds: pc.addTransceiver(k, direction="recvonly")

async def main(url):
    def camera_first(pc): pc.addTransceiver(VideoStreamTrack(), direction="sendonly"); recv(pc, "video", "audio")
    def camera_last(pc): recv(pc, "audio", "video"); pc.addTransceiver(VideoStreamTrack(), direction="sendonly")
    def data(pc): pc.createDataChannel("x"); recv(pc, "video", "audio")
    def mic(pc): pc.addTransceiver("video", direction="recvonly"); pc.addTransceiver(AudioStreamTrack(), direction="sendrecv")
    def mic_apart(pc): pc.addTransceiver(AudioStreamTrack(), direction="sendonly"); recv(pc, "video", "audio")
    def mic_behind(pc): recv(pc, "video", "audio"); pc.addTransceiver(AudioStreamTrack(), direction="sendonly")
    def camera_then_sound(pc): pc.addTransceiver(VideoStreamTrack(), direction="sendonly"); recv(pc, "audio", "video")
    def mic_camera(pc):
        pc.addTransceiver(AudioStreamTrack(), direction="sendonly")
        pc.addTransceiver(VideoStreamTrack(), direction="sendonly")
        recv(pc, "audio", "video")
    def both(pc): pc.addTransceiver(VideoStreamTrack(), direction="sendrecv"); recv(pc, "audio")
    def two(pc): recv(pc, "video", "video", "audio")
    results = []
    for name, build, expect, edit in [
        ("plain", lambda pc: recv(pc, "video", "audio"), ["video", "audio"], lambda s: s),
        ("audio first", lambda pc: recv(pc, "audio", "video"), ["video", "audio"], lambda s: s),
        ("video only", lambda pc: recv(pc, "video"), ["video"], lambda s: s),
        ("audio only", lambda pc: recv(pc, "audio"), ["audio"], lambda s: s),
        ("camera first", camera_first, ["video", "audio"], lambda s: s),
        ("camera last", camera_last, ["video", "audio"], lambda s: s),
        ("two videos", two, ["video", "audio"], lambda s: s),
        ("camera sendrecv", both, ["video", "audio"], lambda s: s),
        ("data channel", data, ["video", "audio"], lambda s: s),
        ("microphone", mic, ["video", "audio"], lambda s: s),
        ("microphone apart", mic_apart, ["video", "audio"], lambda s: s),
        ("microphone apart, max-bundle", mic_apart, ["video", "audio"], lambda s: s),
        ("microphone behind", mic_behind, ["video", "audio"], lambda s: s),
        ("camera, sound, picture", camera_then_sound, ["video", "audio"], lambda s: s),
        ("microphone and camera first, max-bundle", mic_camera, ["video", "audio"], lambda s: s),
        ("no newline", lambda pc: recv(pc, "video", "audio"), ["video", "audio"], lambda s: s.rstrip()),
        ("lf", lambda pc: recv(pc, "video", "audio"), ["video", "audio"], lambda s: s.replace("\r\n", "\n")),
        ("blank line", lambda pc: recv(pc, "video", "audio"), ["video", "audio"], lambda s: s + "\r\n"),
        ("only vp8", lambda pc: recv(pc, "video", "audio"), ["video", "audio"], lambda s: s.replace("H264/90000", "H263/90000")),
    ]:
        results.append(await case(url, name, build, expect, edit))
    print(sum(results), "of", len(results), "are served")
    return all(results)
sys.exit(0 if asyncio.run(main(sys.argv[1])) else 1)
