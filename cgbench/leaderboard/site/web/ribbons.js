"use strict";
// Draws backbones as ribbons, in software: triangles into a depth buffer, so that structures that
// lie over each other are right, every browser draws the same, and no graphics card is needed.
const Ribbons = (() => {
  const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const mix = (...terms) => [0, 1, 2].map(axis => terms.reduce((sum, [f, p]) => sum + f * p[axis], 0));
  const unit = (a, otherwise = [1, 0, 0]) => { const length = Math.hypot(...a); return length > 1e-6 ? a.map(x => x / length) : otherwise; };
  const clamp = (x, low, high) => Math.min(high, Math.max(low, x));

  // Half widths and half thicknesses in Å: coil, helix, strand; arrows begin wider and end in a tip.
  const SHAPE = { C: [0.34, 0.34], H: [1.35, 0.24], E: [1.05, 0.24] };
  const HEAD = 1.75, THIN = 0.2;

  // The Catmull-Rom curve (Catmull and Rom, 1974) and its derivative between the second and third point.
  const curve = (a, b, c, d, t) => mix([-0.5 * t + t * t - 0.5 * t ** 3, a], [1 - 2.5 * t * t + 1.5 * t ** 3, b], [0.5 * t + 2 * t * t - 1.5 * t ** 3, c], [0.5 * (t ** 3 - t * t), d]);
  const slope = (a, b, c, d, t) => mix([-0.5 + 2 * t - 1.5 * t * t, a], [-5 * t + 4.5 * t * t, b], [0.5 + 4 * t - 4.5 * t * t, c], [1.5 * t * t - t, d]);

  // Widths of a ribbon at a place along the chain, counted in residues.
  const shape = (kinds, at) => {
    const near = clamp(Math.round(at), 0, kinds.length - 1), kind = kinds[near];
    if (kind === "E") {
      let end = near;
      while (kinds[end + 1] === "E") end += 1;
      const left = Math.min(kinds.length - 1, end + 0.5) - at;
      if (left < 1.3) return [0.12 + (HEAD - 0.12) * clamp(left / 1.3, 0, 1), SHAPE.E[1]];
    }
    // From one kind to the next over half a residue.
    const side = at > near ? near + 1 : near - 1, other = kinds[clamp(side, 0, kinds.length - 1)];
    const far = clamp((Math.abs(at - near) - 0.2) / 0.6, 0, 0.5);
    if (other === kind || kind === "E" && side > near || other === "E" && side < near) return SHAPE[kind];
    return [0, 1].map(i => SHAPE[kind][i] * (1 - far) + SHAPE[other][i] * far);
  };

  // Returns a ribbon as rings of points with normals, and the residue of each ring. Its flat side
  // follows the planes of the peptides (Carson and Bugg, J. Mol. Graph. 4, 121, 1986).
  const mesh = (frame, thin) => {
    const n = frame.ca.length, kinds = frame.kinds;
    const at = (list, index) => list[clamp(index, 0, list.length - 1)];
    const guide = frame.ca.map((p, i) => !thin && kinds[i] === "E" && i && i < n - 1 ? mix([0.5, p], [0.25, at(frame.ca, i - 1)], [0.25, at(frame.ca, i + 1)]) : p);
    const planes = [];
    for (let i = 0; i + 1 < n; i++) {
      const along = sub(frame.ca[i + 1], frame.ca[i]);
      let side = unit(cross(cross(along, sub(frame.o[i], frame.ca[i])), along), planes[i - 1]);
      if (i && dot(side, planes[i - 1]) < 0) side = side.map(x => -x);
      planes.push(side);
    }
    const sides = frame.ca.map((_, i) => unit(mix([1, at(planes, i - 1)], [1, at(planes, i)]), at(planes, i)));
    const steps = thin ? 4 : n > 40 ? 7 : 10, around = thin ? 6 : n > 40 ? 10 : 14;
    const count = (n - 1) * steps + 1, points = new Float32Array(3 * count * around), normals = new Float32Array(3 * count * around);
    for (let ring = 0; ring < count; ring++) {
      const place = ring / steps, i = Math.min(n - 2, Math.floor(place)), t = place - i;
      const near = list => [at(list, i - 1), list[i], list[i + 1], at(list, i + 2)];
      const middle = curve(...near(guide), t), along = unit(slope(...near(guide), t));
      const raw = curve(...near(sides), t), side = unit(mix([1, raw], [-dot(raw, along), along])), up = cross(along, side);
      const [width, thick] = thin ? [THIN, THIN] : shape(kinds, place);
      for (let k = 0; k < around; k++) {
        const c = Math.cos(2 * Math.PI * k / around), s = Math.sin(2 * Math.PI * k / around), start = 3 * (ring * around + k);
        const out = unit(mix([c / width, side], [s / thick, up]));
        for (let axis = 0; axis < 3; axis++) {
          points[start + axis] = middle[axis] + width * c * side[axis] + thick * s * up[axis];
          normals[start + axis] = out[axis];
        }
      }
    }
    const faces = [];
    for (let ring = 0; ring + 1 < count; ring++)
      for (let k = 0; k < around; k++) {
        const a = ring * around + k, b = ring * around + (k + 1) % around;
        faces.push(a, b, a + around, b, b + around, a + around);
      }
    // The ends are closed.
    for (const [ring, turned] of [[0, 1], [count - 1, 0]])
      for (let k = 1; k + 1 < around; k++) faces.push(ring * around, ring * around + k + turned, ring * around + k + 1 - turned);
    return { points, normals, faces: new Uint32Array(faces), placeOf: vertex => Math.floor(vertex / around) / steps };
  };

  const blend = (colours, place) => {
    const low = Math.floor(place), t = place - low;
    return t ? mix([1 - t, colours[low]], [t, colours[low + 1]]) : colours[low];
  };

  // A ball, which marks the first residue.
  const ball = (centre, radius) => {
    const across = 14, down = 8, points = [], normals = [], faces = [];
    for (let i = 0; i <= down; i++)
      for (let k = 0; k < across; k++) {
        const [a, b] = [Math.PI * i / down, 2 * Math.PI * k / across], out = [Math.sin(a) * Math.cos(b), Math.sin(a) * Math.sin(b), Math.cos(a)];
        normals.push(...out);
        points.push(...mix([1, centre], [radius, out]));
        const here = i * across + k, next = i * across + (k + 1) % across;
        if (i < down) faces.push(here, next, here + across, next, next + across, here + across);
      }
    return { points: new Float32Array(points), normals: new Float32Array(normals), faces: new Uint32Array(faces), placeOf: () => 0 };
  };

  class View {
    constructor(canvas) {
      this.canvas = canvas;
      this.parts = [];
      this.radius = 10;
      this.scale = 1;
      this.matrix = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    }

    // Shows chains: {frame: {ca, o, kinds}, thin, colours: one [r, g, b] a residue, smooth: whether they
    // pass into each other}.
    show(chains) {
      this.parts = [];
      chains.forEach((chain, index) => {
        const part = made => ({ ...made, colours: chain.colours, smooth: chain.smooth, chain: index });
        this.parts.push(part(mesh(chain.frame, chain.thin)));
        if (!chain.thin) this.parts.push(part(ball(chain.frame.ca[0], 0.62)));
      });
      this.chains = chains;
    }

    // What stays in the picture whichever chain is shown.
    fit(points) {
      this.centre = [0, 1, 2].map(axis => points.reduce((sum, p) => sum + p[axis], 0) / (points.length || 1));
      this.radius = Math.max(6, ...points.map(p => Math.hypot(...sub(p, this.centre)) + 1.5));
    }

    // Turns by degrees about the vertical and the horizontal axis of the screen.
    turn(across, along) {
      const [a, b] = [across * Math.PI / 180, along * Math.PI / 180], m = this.matrix;
      const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
      const by = [ca, 0, sa, sb * sa, cb, -sb * ca, -cb * sa, sb, cb * ca];
      this.matrix = [0, 1, 2].flatMap(row => [0, 1, 2].map(column => by[3 * row] * m[column] + by[3 * row + 1] * m[3 + column] + by[3 * row + 2] * m[6 + column]));
    }

    // Returns what is at a place of the canvas: the chain and its residue.
    at(x, y) {
      const found = this.found?.[Math.round(y) * this.canvas.width + Math.round(x)] || 0;
      return found ? { chain: this.chains[(found >> 12) - 1], residue: found & 4095 } : null;
    }

    // Draws into the canvas, whose size says how finely; ground is the [r, g, b] that depth fades into.
    draw(ground) {
      const { width, height } = this.canvas, n = width * height;
      if (!this.centre || !n) return;
      const pen = this.canvas.getContext("2d"), image = pen.createImageData(width, height), pixels = image.data;
      const depth = new Float32Array(n).fill(-Infinity), found = this.found = new Uint32Array(n);
      const size = 0.55 * Math.min(width, height) * this.scale / this.radius, eye = 5 * this.radius;
      for (const part of this.parts) this.#raster(part, size, eye, depth, found, pixels);
      this.#finish(depth, found, pixels, ground, size);
      pen.putImageData(image, 0, 0);
    }

    #raster(part, size, eye, depth, found, pixels) {
      const { width, height } = this.canvas, m = this.matrix, [cx, cy, cz] = this.centre;
      const count = part.points.length / 3, seen = new Float32Array(5 * count);
      for (let v = 0; v < count; v++) {
        const [x, y, z] = [part.points[3 * v] - cx, part.points[3 * v + 1] - cy, part.points[3 * v + 2] - cz];
        const [a, b, c] = [part.normals[3 * v], part.normals[3 * v + 1], part.normals[3 * v + 2]];
        const deep = m[6] * x + m[7] * y + m[8] * z, near = size * eye / Math.max(1, eye - deep);
        const [nx, ny, nz] = [m[0] * a + m[1] * b + m[2] * c, m[3] * a + m[4] * b + m[5] * c, m[6] * a + m[7] * b + m[8] * c];
        seen[5 * v] = width / 2 + near * (m[0] * x + m[1] * y + m[2] * z);
        seen[5 * v + 1] = height / 2 - near * (m[3] * x + m[4] * y + m[5] * z);
        seen[5 * v + 2] = deep;
        // One light from the upper left in front, a little from everywhere, and a gloss.
        seen[5 * v + 3] = 0.5 + 0.5 * Math.max(0, -0.38 * nx + 0.5 * ny + 0.78 * nz);
        seen[5 * v + 4] = 70 * Math.max(0, -0.2 * nx + 0.27 * ny + 0.94 * nz) ** 28;
      }
      for (let f = 0; f < part.faces.length; f += 3) {
        const [p, q, r] = [5 * part.faces[f], 5 * part.faces[f + 1], 5 * part.faces[f + 2]];
        const [px, py, qx, qy, rx, ry] = [seen[p], seen[p + 1], seen[q], seen[q + 1], seen[r], seen[r + 1]];
        const area = (qx - px) * (ry - py) - (qy - py) * (rx - px);
        if (Math.abs(area) < 1e-9) continue;
        const left = Math.max(0, Math.ceil(Math.min(px, qx, rx))), right = Math.min(width - 1, Math.floor(Math.max(px, qx, rx)));
        const top = Math.max(0, Math.ceil(Math.min(py, qy, ry))), foot = Math.min(height - 1, Math.floor(Math.max(py, qy, ry)));
        const along = part.placeOf(part.faces[f]), residue = Math.round(along), mark = (part.chain + 1 << 12) | residue;
        const [red, green, blue] = part.smooth ? blend(part.colours, along) : part.colours[residue];
        for (let y = top; y <= foot; y++)
          for (let x = left; x <= right; x++) {
            const b = ((x - px) * (ry - py) - (y - py) * (rx - px)) / area, c = ((qx - px) * (y - py) - (qy - py) * (x - px)) / area, a = 1 - b - c;
            if (a < 0 || b < 0 || c < 0) continue;
            const z = a * seen[p + 2] + b * seen[q + 2] + c * seen[r + 2], place = y * width + x;
            if (z <= depth[place]) continue;
            const light = a * seen[p + 3] + b * seen[q + 3] + c * seen[r + 3], gloss = a * seen[p + 4] + b * seen[q + 4] + c * seen[r + 4];
            depth[place] = z;
            found[place] = mark;
            pixels[4 * place] = red * light + gloss;
            pixels[4 * place + 1] = green * light + gloss;
            pixels[4 * place + 2] = blue * light + gloss;
            pixels[4 * place + 3] = 255;
          }
      }
    }

    // Fades what is far, and draws a line where one thing lies clearly in front of another.
    #finish(depth, found, pixels, ground, size) {
      const { width, height } = this.canvas, reach = Math.max(1, Math.round(size * 0.09));
      const dark = ground[0] + ground[1] + ground[2] < 380;
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const place = y * width + x;
          if (!found[place]) continue;
          const far = 0.42 * clamp((0.25 * this.radius - depth[place]) / (1.35 * this.radius), 0, 1);
          const limit = depth[place] - 1.1;
          const edge = (x < reach || depth[place - reach] < limit) || (x >= width - reach || depth[place + reach] < limit)
            || (y < reach || depth[place - reach * width] < limit) || (y >= height - reach || depth[place + reach * width] < limit);
          const keep = edge ? (dark ? 0.3 : 0.38) : 1;
          for (let channel = 0; channel < 3; channel++) {
            const value = pixels[4 * place + channel] * keep;
            pixels[4 * place + channel] = value + (ground[channel] - value) * far;
          }
        }
    }
  }
  return { View };
})();
