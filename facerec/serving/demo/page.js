"use strict";

const pictures = { a: null, b: null };
let model = null;
let latest = 0;

const byId = (id) => document.getElementById(id);

function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

async function start() {
  model = await (await fetch("/api/model")).json();
  byId("title").textContent = model.title;
  byId("about").textContent =
    `${model.backbone}, pictures of ${model.image_hw[0]} x ${model.image_hw[1]} pixels; others are scaled.`;
  const known = model.calibration;
  byId("far-label").hidden = !known;
  byId("threshold-label").hidden = Boolean(known);
  byId("histogram-section").hidden = !known;
  if (known) {
    byId("pair-set").textContent = `${known.pair_set} (${known.pairs} pairs)`;
    for (const entry of known.thresholds) {
      const option = new Option(`${entry.far} (threshold ${entry.threshold.toFixed(3)})`, entry.far);
      option.selected = entry.far === known.default_far;
      byId("far").append(option);
    }
    tellTrust();
    draw(null);
  }
  byId("far").addEventListener("change", () => { tellTrust(); compare(); });
  byId("threshold").addEventListener("change", compare);
  for (const side of ["a", "b"]) prepare(side);
}

function chosen() {
  const far = Number(byId("far").value);
  return model.calibration.thresholds.find((entry) => entry.far === far);
}

function tellTrust() {
  const entry = chosen();
  const rates = `On these pairs ${percent(entry.tar)} of the genuine ones are accepted; with 95 % confidence the true ` +
    `false accept rate at this threshold is at most ${entry.far_interval[1].toPrecision(2)}.`;
  const few = entry.is_bound ? " The pairs are too few to show this rate: take it as a bound."
    : entry.trusted ? "" : " Few impostor pairs decide this threshold.";
  byId("trust").textContent = rates + few;
}

function prepare(side) {
  const slot = byId(`slot-${side}`);
  const input = slot.querySelector("input");
  const choose = () => { if (!stopCamera(slot, side)) input.click(); };
  slot.addEventListener("click", (event) => { if (event.target.tagName !== "BUTTON" && event.target !== input) choose(); });
  slot.addEventListener("keydown", (event) => {
    if (event.target === slot && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); choose(); }
  });
  input.addEventListener("change", () => {
    if (input.files[0]) take(side, input.files[0]);
    input.value = ""; // The same file, changed meanwhile, can be chosen again.
  });
  slot.addEventListener("dragover", (event) => { event.preventDefault(); slot.classList.add("over"); });
  slot.addEventListener("dragleave", () => slot.classList.remove("over"));
  slot.addEventListener("drop", (event) => {
    event.preventDefault();
    slot.classList.remove("over");
    if (event.dataTransfer.files[0]) take(side, event.dataTransfer.files[0]);
  });
  slot.querySelector(".camera").addEventListener("click", () => camera(slot, side));
}

async function camera(slot, side) {
  if (stopCamera(slot, side)) return;
  const video = slot.querySelector("video");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  } catch (error) {
    fail(`The camera cannot be used (${error.name}).`);
    return;
  }
  video.hidden = false;
  slot.querySelector(".picked").hidden = true;
  slot.querySelector(".hint").hidden = true;
  slot.querySelector(".camera").textContent = "Take the picture";
}

// Whether the camera was on; its picture, cut to a square, is taken.
function stopCamera(slot, side) {
  const video = slot.querySelector("video");
  if (!video.srcObject) return false;
  const edge = Math.min(video.videoWidth, video.videoHeight);
  if (edge > 0) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = edge;
    canvas.getContext("2d").drawImage(
      video, (video.videoWidth - edge) / 2, (video.videoHeight - edge) / 2, edge, edge, 0, 0, edge, edge);
    canvas.toBlob((blob) => take(side, blob), "image/png");
  }
  for (const track of video.srcObject.getTracks()) track.stop();
  video.srcObject = null;
  video.hidden = true;
  slot.querySelector(".camera").textContent = "Camera";
  return true;
}

function take(side, file) {
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    pictures[side] = reader.result;
    const slot = byId(`slot-${side}`);
    const image = slot.querySelector(".picked");
    image.src = reader.result;
    image.hidden = false;
    slot.querySelector(".hint").hidden = true;
    compare();
  });
  reader.readAsDataURL(file);
}

function fail(sentence) {
  byId("decision").textContent = sentence;
  byId("decision").className = "error";
  byId("numbers").textContent = "";
  byId("crops").hidden = true;
}

async function compare() {
  if (!pictures.a || !pictures.b) return;
  const turn = ++latest;
  const body = { image_a: pictures.a, image_b: pictures.b };
  if (model.calibration) body.far = chosen().far;
  else body.threshold = Number(byId("threshold").value);
  let answer;
  try {
    const response = await fetch("/api/compare", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    answer = await response.json();
  } catch {
    answer = { error: "The server does not answer; is it still running?" };
  }
  if (turn !== latest) return; // A later comparison is under way.
  if (answer.error) { fail(answer.error); return; }
  byId("decision").textContent = answer.same_person ? "Same person" : "Different people";
  byId("decision").className = answer.same_person ? "same" : "different";
  byId("numbers").textContent =
    `similarity ${answer.similarity.toFixed(4)}, threshold ${answer.threshold.toFixed(4)}`;
  byId("crop-a").src = answer.crops[0];
  byId("crop-b").src = answer.crops[1];
  byId("crops").hidden = false;
  if (model.calibration) draw(answer.similarity);
}

function draw(similarity) {
  const canvas = byId("histogram");
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const floor = height - 26;
  const x = (score) => (score + 1) / 2 * width;
  context.clearRect(0, 0, width, height);
  const kinds = [["impostor_histogram", "rgba(217,114,44,0.65)"], ["genuine_histogram", "rgba(31,119,180,0.65)"]];
  for (const [name, colour] of kinds) {
    const counts = model.calibration[name];
    const top = Math.max(...counts, 1);
    const step = width / counts.length;
    context.fillStyle = colour;
    counts.forEach((count, bin) => {
      const tall = count / top * (floor - 24);
      context.fillRect(bin * step, floor - tall, step - 0.5, tall);
    });
  }
  context.font = "13px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillStyle = "#333";
  for (const score of [-0.8, -0.4, 0, 0.4, 0.8]) context.fillText(score.toFixed(1), x(score), height - 8);
  line(context, x(chosen().threshold), floor, "#555", [6, 4]);
  if (similarity !== null) {
    line(context, x(similarity), floor, "#000", []);
    context.beginPath();
    context.arc(x(similarity), 14, 6, 0, 7);
    context.fillStyle = "#000";
    context.fill();
  }
}

function line(context, place, floor, colour, dash) {
  context.strokeStyle = colour;
  context.lineWidth = 2;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(place, 14);
  context.lineTo(place, floor);
  context.stroke();
  context.setLineDash([]);
}

start().catch(() => fail("The server does not answer; is it still running?"));
