"use strict";
// Draws chains as smooth tubes on a plain canvas: what the page shows where WebGL or the embedded
// molecular viewer is missing, and what it prints.
class TraceView {
  constructor(stage) {
    this.canvas = document.createElement("canvas");
    stage.append(this.canvas);
    this.stage = stage;
    this.chains = [];
    this.spinning = null;
    this.reset();
    let from = null;
    this.canvas.addEventListener("pointerdown", event => {
      from = [event.clientX, event.clientY];
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener("pointermove", event => {
      if (!from) return;
      this.turn((event.clientX - from[0]) * 0.6, (event.clientY - from[1]) * 0.6);
      from = [event.clientX, event.clientY];
    });
    for (const name of ["pointerup", "pointercancel"])
      this.canvas.addEventListener(name, () => { from = null; });
    new ResizeObserver(() => this.draw()).observe(stage);
  }

  // Shows chains: {points: [[x, y, z], …] of the Cα in Å, colour, thin}.
  show(chains) {
    this.chains = chains.map(chain => ({ ...chain, path: TraceView.smooth(chain.points) }));
    const all = this.chains.flatMap(chain => chain.points);
    this.centre = [0, 1, 2].map(axis => all.reduce((sum, p) => sum + p[axis], 0) / (all.length || 1));
    this.radius = Math.max(5, ...all.map(p => Math.hypot(...p.map((value, axis) => value - this.centre[axis]))));
    this.draw();
  }

  // A Catmull-Rom curve through the points, eight pieces a bond.
  static smooth(points) {
    const path = [];
    const at = index => points[Math.min(points.length - 1, Math.max(0, index))];
    for (let bond = 0; bond < points.length - 1; bond++)
      for (let piece = 0; piece < 8; piece++) {
        const t = piece / 8, [a, b, c, d] = [at(bond - 1), at(bond), at(bond + 1), at(bond + 2)];
        path.push([0, 1, 2].map(axis => 0.5 * (2 * b[axis] + (c[axis] - a[axis]) * t
          + (2 * a[axis] - 5 * b[axis] + 4 * c[axis] - d[axis]) * t * t
          + (3 * b[axis] - a[axis] - 3 * c[axis] + d[axis]) * t * t * t)));
      }
    if (points.length) path.push(points[points.length - 1]);
    return path;
  }

  reset() {
    this.matrix = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    this.scale = 1;
    this.draw();
  }

  // Turns by degrees about the vertical and the horizontal axis of the screen.
  turn(across, along) {
    const [a, b] = [across * Math.PI / 180, along * Math.PI / 180];
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    const by = [ca, 0, sa, sb * sa, cb, -sb * ca, -cb * sa, sb, cb * ca], m = this.matrix;
    this.matrix = [0, 1, 2].flatMap(row => [0, 1, 2].map(column =>
      by[3 * row] * m[column] + by[3 * row + 1] * m[3 + column] + by[3 * row + 2] * m[6 + column]));
    this.draw();
  }

  zoom(factor) {
    this.scale = Math.min(8, Math.max(0.3, this.scale * factor));
    this.draw();
  }

  spin(on) {
    cancelAnimationFrame(this.spinning);
    this.spinning = null;
    const step = () => { this.turn(0.6, 0); this.spinning = requestAnimationFrame(step); };
    if (on) step();
  }

  picture() { return this.canvas.toDataURL("image/png"); }

  draw() {
    if (!this.centre || !this.stage.clientWidth) return;
    const ratio = Math.max(2, window.devicePixelRatio || 1);
    const [width, height] = [this.stage.clientWidth * ratio, this.stage.clientHeight * ratio];
    this.canvas.width = width;
    this.canvas.height = height;
    const pen = this.canvas.getContext("2d"), m = this.matrix;
    const unit = this.scale * 0.46 * Math.min(width, height) / this.radius;
    const place = point => {
      const p = point.map((value, axis) => value - this.centre[axis]);
      const z = (m[6] * p[0] + m[7] * p[1] + m[8] * p[2]) / this.radius;
      const near = 1 / (1 - 0.18 * z);
      return [width / 2 + unit * near * (m[0] * p[0] + m[1] * p[1] + m[2] * p[2]),
        height / 2 - unit * near * (m[3] * p[0] + m[4] * p[1] + m[5] * p[2]), z, near];
    };
    const pieces = [];
    for (const chain of this.chains) {
      const seen = chain.path.map(place);
      const size = unit * (chain.thin ? 0.28 : 0.75);
      if (seen.length) pieces.push({ z: seen[0][2], ball: seen[0], size: size * 1.1, colour: chain.colour });
      for (let i = 1; i < seen.length; i++)
        pieces.push({ z: (seen[i - 1][2] + seen[i][2]) / 2, line: [seen[i - 1], seen[i]], size, colour: chain.colour });
    }
    pieces.sort((a, b) => a.z - b.z);
    pen.lineCap = "round";
    for (const piece of pieces) {
      const light = Math.min(1, Math.max(0.45, 0.75 + 0.3 * piece.z));
      const near = (piece.ball || piece.line[0])[3];
      const strokes = [[piece.size * near + 2.5 * ratio, "rgba(20, 24, 30, 0.85)"], [piece.size * near, TraceView.shade(piece.colour, light)]];
      for (const [size, colour] of strokes) {
        pen.beginPath();
        if (piece.ball) {
          pen.fillStyle = colour;
          pen.arc(piece.ball[0], piece.ball[1], size, 0, 2 * Math.PI);
          pen.fill();
          continue;
        }
        pen.strokeStyle = colour;
        pen.lineWidth = size;
        // Dark edges stop short of the joints, so that neighbouring pieces merge.
        pen.lineCap = size === piece.size * near ? "round" : "butt";
        pen.moveTo(piece.line[0][0], piece.line[0][1]);
        pen.lineTo(piece.line[1][0], piece.line[1][1]);
        pen.stroke();
      }
    }
  }

  static shade(colour, light) {
    const parts = [1, 3, 5].map(place => parseInt(colour.slice(place, place + 2), 16));
    return `rgb(${parts.map(part => Math.round(part * light)).join(",")})`;
  }
}
