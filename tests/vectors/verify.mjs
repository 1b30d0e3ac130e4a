// Another reading of the protocol: checks puente-v1.json from docs/spec alone, sharing no code with the broker.
// Protobuf is read by hand; HPKE is put together from RFC 9180. Node's crypto, and @noble/post-quantum for ML-DSA, ML-KEM.
//
//   npm ci --ignore-scripts && node verify.mjs puente-v1.json
//
// Prints a line for each statement that holds, and `all hold`; exit 1 at the first that does not.
import crypto from "node:crypto";
import { readFileSync } from "node:fs";
import { ml_dsa65 } from "@noble/post-quantum/ml-dsa.js";
import { ml_kem768 } from "@noble/post-quantum/ml-kem.js";

const file = process.argv[2];
if (!file) {
  console.error("usage: node verify.mjs puente-v1.json");
  process.exit(2);
}
const vectors = JSON.parse(readFileSync(file, "utf8"));

// Bytes ------------------------------------------------------------------------------------------------------------

const hex = (text) => Buffer.from(text, "hex");
const text = (value) => Buffer.from(value, "latin1");
const cat = (...parts) => Buffer.concat(parts);
const H = (...parts) => crypto.createHash("sha256").update(cat(...parts)).digest();
const leafHash = (...parts) => H(Buffer.from([0]), ...parts);
const nodeHash = (left, right) => H(Buffer.from([1]), left, right);
const u16 = (n) => Buffer.from([n >> 8, n & 255]);
const u32 = (n) => { const out = Buffer.alloc(4); out.writeUInt32BE(n); return out; };
const u64 = (n) => { const out = Buffer.alloc(8); out.writeBigUInt64BE(BigInt(n)); return out; };

function hold(what, condition) {
  if (!condition) {
    console.error(`does not hold: ${what}`);
    process.exit(1);
  }
}

const same = (what, got, expected) => hold(what, got.toString("hex") === expected);

// Protobuf, wire types 0 and 2 only: [{number, value (BigInt or Buffer), bytes of the whole field}] --------------------

function varint(data, at) {
  let value = 0n;
  for (let shift = 0n, n = at; n < data.length && shift < 70n; n += 1, shift += 7n) {
    value |= BigInt(data[n] & 0x7f) << shift;
    if (data[n] < 0x80) {
      hold("varints are minimal", n === at || data[n] !== 0);
      return [value, n + 1];
    }
  }
  throw hold("varints end", false);
}

function fields(data) {
  const found = [];
  let at = 0;
  let last = 0;
  while (at < data.length) {
    const start = at;
    let tag;
    let value;
    [tag, at] = varint(data, at);
    const number = Number(tag >> 3n);
    hold("fields ascend", number >= last);
    last = number;
    [value, at] = varint(data, at);
    if ((tag & 7n) === 2n) {
      const end = at + Number(value);
      hold("fields end", end <= data.length);
      [value, at] = [data.subarray(at, end), end];
    } else hold("wire types are 0 and 2", (tag & 7n) === 0n);
    found.push({ number, value, bytes: data.subarray(start, at) });
  }
  return found;
}

const all = (data, number) => fields(data).filter((field) => field.number === number).map((field) => field.value);
const one = (data, number) => all(data, number)[0] ?? Buffer.alloc(0);
const num = (data, number) => Number(all(data, number)[0] ?? 0n);

// Suite 1 ------------------------------------------------------------------------------------------------------------

const LABEL = text("COMPSIG-MLDSA65-Ed25519-SHA512");

function rawKey(kind, raw) {
  return crypto.createPublicKey({ key: { kty: "OKP", crv: kind, x: raw.toString("base64url") }, format: "jwk" });
}

function verifies(publicKey, signature, message, ctx) {
  if (publicKey.length !== 1952 + 32 || signature.length !== 3309 + 64) return false;
  const digest = crypto.createHash("sha512").update(message).digest();
  const signed = cat(text("CompositeAlgorithmSignatures2025"), LABEL, Buffer.from([ctx.length]), ctx, digest);
  const ed25519 = crypto.verify(null, signed, rawKey("Ed25519", publicKey.subarray(1952)), signature.subarray(3309));
  const bytes = (buffer) => Uint8Array.from(buffer);
  const half = [signature.subarray(0, 3309), signed, publicKey.subarray(0, 1952)].map(bytes);
  return ed25519 && ml_dsa65.verify(...half, { context: bytes(LABEL) });
}

const kid = (suite, use, publicKey) => H(text("puente/v1/kid\0"), u16(suite), Buffer.from([use]), publicKey);

function xwing(seed, enc) {
  const expanded = crypto.createHash("shake256", { outputLength: 96 }).update(seed).digest();
  const kem = ml_kem768.keygen(Uint8Array.from(expanded.subarray(0, 64)));
  const pkcs8 = cat(hex("302e020100300506032b656e04220420"), expanded.subarray(64));
  const privateKey = crypto.createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const own = Buffer.from(crypto.createPublicKey(privateKey).export({ format: "jwk" }).x, "base64url");
  const shared = crypto.diffieHellman({ privateKey, publicKey: rawKey("X25519", enc.subarray(1088)) });
  const quantum = ml_kem768.decapsulate(Uint8Array.from(enc.subarray(0, 1088)), kem.secretKey);
  const secret = crypto.createHash("sha3-256").update(cat(quantum, shared, enc.subarray(1088), own, text("\\.//^\\")));
  return { publicKey: cat(kem.publicKey, own), secret: secret.digest() };
}

// RFC 9180, section 5.1, base mode: KEM 0x647a, HKDF-SHA256 (1), AES-256-GCM (2).
function hpkeOpen(secret, info, ciphertext) {
  const suite = cat(text("HPKE"), u16(0x647a), u16(1), u16(2));
  const hmac = (key, data) => crypto.createHmac("sha256", key).update(data).digest();
  const extract = (salt, label, ikm) => hmac(salt, cat(text("HPKE-v1"), suite, text(label), ikm));
  const expand = (prk, label, context, length) =>
    hmac(prk, cat(u16(length), text("HPKE-v1"), suite, text(label), context, Buffer.from([1]))).subarray(0, length);
  const none = Buffer.alloc(0);
  const zero = Buffer.alloc(32);
  const context = cat(Buffer.from([0]), extract(zero, "psk_id_hash", none), extract(zero, "info_hash", info));
  const schedule = extract(secret, "secret", none);
  const cipher = crypto.createDecipheriv(
    "aes-256-gcm", expand(schedule, "key", context, 32), expand(schedule, "base_nonce", context, 12));
  cipher.setAuthTag(ciphertext.subarray(-16));
  return cat(cipher.update(ciphertext.subarray(0, -16)), cipher.final());
}

// Trees --------------------------------------------------------------------------------------------------------------

function treeRoot(leaves) {
  if (leaves.length === 1) return leaves[0];
  let half = 1;
  while (half * 2 < leaves.length) half *= 2;
  return nodeHash(treeRoot(leaves.slice(0, half)), treeRoot(leaves.slice(half)));
}

function originRoot(leaf, place, siblings) {
  hold("a path has 8 siblings", siblings.length === 8 && place >= 0 && place < 256);
  return siblings.reduce((node, sibling, level) =>
    (place >> level) & 1 ? nodeHash(sibling, node) : nodeHash(node, sibling), leaf);
}

// Records ------------------------------------------------------------------------------------------------------------

const sectionLeaf = (slot, salt, section) => leafHash(text("puente/v1/section\0"), u32(slot), salt, section);
const recordRoot = (leaves) => H(text("puente/v1/record\0"), u32(leaves.length), ...leaves);
const originLeaf = (statement) => leafHash(text("puente/v1/origin\0"), statement);

function checkSections({ slots, record_seed, message_id, record, sections, salts, blanks, leaves, record_root }) {
  const input = cat(text("puente/v1/salt\0"), hex(record_seed), hex(message_id));
  const block = crypto.createHash("shake256", { outputLength: 64 * slots }).update(input).digest();
  same("salts and blanks follow from the seed", block, salts.join("") + blanks.join(""));
  const byslot = Array.from({ length: slots }, (_, n) =>
    cat(...fields(hex(record)).filter((field) => field.number === n + 1).map((field) => field.bytes)));
  same("a record is its sections", cat(...byslot), record);
  const computed = byslot.map((section, n) => {
    same(`section ${n + 1}`, section, sections[n]);
    const leaf = section.length ? sectionLeaf(n + 1, hex(salts[n]), section) : hex(blanks[n]);
    same(`leaf ${n + 1}`, leaf, leaves[n]);
    return leaf;
  });
  same("the record's root", recordRoot(computed), record_root);
}

function checkOrigin(origin) {
  for (const { statement, leaf, place, siblings } of origin.leaves) {
    same("a statement's leaf", originLeaf(hex(statement)), leaf);
    same("a leaf leads to the root", originRoot(hex(leaf), place, siblings.map(hex)), origin.root);
  }
  const batch = hex(origin.batch_statement);
  hold("a batch statement is 74 bytes of version 1", batch.length === 74 && batch.readUInt16BE(0) === 1);
  same("it names the origin key", batch.subarray(2, 34), kid(1, 2, hex(origin.public)).toString("hex"));
  same("it names the root", batch.subarray(42), origin.root);
  same("a batch's name", H(batch), origin.batch);
  hold("the agency signed it", verifies(hex(origin.public), hex(origin.signature), batch, text("puente/v1/origin")));
}

function checkMessage(message, origin) {
  const [entry, core, salt] = [one(message, 1), one(message, 2), one(message, 3)];
  const slots = all(message, 4);
  const statement = one(core, 1);
  hold("the core is the one released", H(text("puente/v1/core\0"), salt, core).equals(one(entry, 6)));
  hold("the statement is the one released", originLeaf(statement).equals(one(entry, 5)));
  hold("it has the message's id", one(statement, 3).equals(one(entry, 4)));
  hold("a message has 16 slots", slots.length === 16);
  const shown = num(core, 5);
  const leaves = slots.map((slot, n) => {
    const [given, section, leaf] = [one(slot, 1), one(slot, 2), one(slot, 3)];
    const open = Boolean((shown >> n) & 1);
    hold("exactly the shown slots are open", open === Boolean(section.length) && open !== Boolean(leaf.length));
    if (!open) return leaf;
    hold("a section holds its own field only", fields(section).every((field) => field.number === n + 1));
    return sectionLeaf(n + 1, given, section);
  });
  hold("the slots are those of the signed record", recordRoot(leaves).equals(one(statement, 6)));
  same("the core names the batch", one(core, 2), origin.batch);
  same("the path leads to the signed root", originRoot(originLeaf(statement), num(core, 3), all(core, 4)), origin.root);
  return leafHash(entry);
}

function checkEnvelope(vector, origin) {
  const envelope = hex(vector.envelope);
  const [header, encCt, signature] = [one(envelope, 1), one(envelope, 2), one(envelope, 3)];
  same("the header's hash", H(header), vector.header_hash);
  const signed = cat(H(header), H(encCt));
  hold("the sender signed it", verifies(hex(vector.sender_public), signature, signed, text("puente/v1/envelope")));
  const { publicKey, secret } = xwing(hex(vector.hpke_seed), encCt.subarray(0, 1120));
  same("the seed gives the public key", publicKey, vector.hpke_public);
  const padded = hpkeOpen(secret, cat(text("puente/v1/hpke\0"), H(header)), encCt.subarray(1120));
  const length = padded.readUInt32BE(0);
  hold("padding", padded.length === paddedSize(length) && padded.subarray(4 + length).every((byte) => byte === 0));
  const content = padded.subarray(4, 4 + length);
  same("what it sealed", content, vector.content);
  const releases = all(content, 2).map((message) => checkMessage(message, origin));
  hold("the header's count", releases.length === num(header, 13) && releases.length === vector.count);
  same("the header's root", treeRoot(releases), one(header, 14).toString("hex"));
}

function paddedSize(length) {
  const size = 4 + length;
  const exponent = Math.floor(Math.log2(size));
  const bits = exponent - (Math.floor(Math.log2(exponent)) + 1);
  return Math.max(1024, Math.ceil(size / 2 ** bits) * 2 ** bits);
}

function checkControl({ items, leaves, root, agency_receipt: said }) {
  const computed = items.map((item, n) => {
    const parts = [one(hex(item), 1), u16(num(hex(item), 2)), one(hex(item), 3)];
    const leaf = leafHash(text("puente/v1/control\0"), ...parts);
    same(`the leaf of item ${n + 1}`, leaf, leaves[n]);
    return leaf;
  });
  same("the root of control items", treeRoot(computed), root);
  const receipt = one(hex(items[0]), 3);
  const agency = one(receipt, 6);
  const time = all(agency, 2)[0];
  const signed = cat(one(receipt, 1), Buffer.from([num(receipt, 2)]), u16(num(receipt, 3)), u64(time));
  same("what the agency signs", signed, said.signed);
  same("whose key it is", one(agency, 1), kid(1, 9, hex(said.public)).toString("hex"));
  same("its signature stands in the receipt", one(agency, 3), said.signature);
  hold("the agency signed it", verifies(hex(said.public), hex(said.signature), signed, text("puente/v1/receipt")));
}

function checkAgreement({ file: agreement, digest }) {
  const document = one(hex(agreement), 1);
  const name = H(text("puente/v1/agreement\0"), document);
  same("its digest", name, digest);
  for (const party of all(document, 6)) {
    const roots = new Map(all(party, 2).map((root) => [kid(1, 1, root).toString("hex"), root]));
    const own = all(hex(agreement), 2).filter((signature) => roots.has(one(signature, 1).toString("hex")));
    const good = own.filter((signature) => {
      const root = roots.get(one(signature, 1).toString("hex"));
      return verifies(root, one(signature, 2), name, text("puente/v1/agreement"));
    });
    hold("enough roots of each party signed it", good.length === own.length && good.length >= num(party, 3));
  }
}

function checkKeyItem({ item, kid: name, link_id, signed }, { file }) {
  const data = hex(item);
  const bare = cat(...fields(data).filter(({ number }) => number !== 9).map(({ bytes }) => bytes));
  const digest = H(text("puente/v1/key\0"), hex(link_id), bare);
  same("what roots sign", digest, signed);
  same("whose key it is", kid(num(data, 2), num(data, 3), one(data, 1)), name);
  const party = one(data, 4).toString().split(".")[0];
  const own = all(one(hex(file), 1), 6).find((found) => one(found, 1).toString() === party);
  const roots = new Map(all(own, 2).map((root) => [kid(1, 1, root).toString("hex"), root]));
  const good = all(data, 9).filter((signature) => {
    const root = roots.get(one(signature, 1).toString("hex"));
    return root && verifies(root, one(signature, 2), digest, text("puente/v1/key"));
  });
  hold("enough roots of its party signed it", good.length === all(data, 9).length && good.length >= num(own, 3));
}

// The statements -----------------------------------------------------------------------------------------------------

const statements = {
  "key names": () => vectors.kids.forEach((key) => same("a kid", kid(key.suite, key.use, hex(key.public)), key.kid)),
  "sections, salts, leaves and root of a record": () => checkSections(vectors.section),
  "the commitment to facts": () => {
    const { salt, facts, commit } = vectors.facts;
    same("facts", H(text("puente/v1/facts\0"), hex(salt), hex(facts)), commit);
  },
  "the origin tree and its agency's signature": () => checkOrigin(vectors.origin),
  "the release": () => same("a release", leafHash(hex(vectors.release.entry)), vectors.release.release),
  "the commitment to the core": () => {
    const { commit_salt, core, core_commit } = vectors.release;
    same("core", H(text("puente/v1/core\0"), hex(commit_salt), hex(core)), core_commit);
  },
  "a message with a withheld section": () =>
    same("its release", checkMessage(hex(vectors.release.message), vectors.origin), vectors.release.release),
  "the envelope: signature, HPKE, padding, content and root": () => checkEnvelope(vectors.envelope, vectors.origin),
  "control items, and the agency's receipt": () => checkControl(vectors.control),
  "the agreement and its roots": () => checkAgreement(vectors.agreement),
  "a key item and its roots": () => checkKeyItem(vectors.key_item, vectors.agreement),
  "padding": () => vectors.padding.forEach(({ length, padded }) => hold("a size", paddedSize(length) === padded)),
};

for (const [what, check] of Object.entries(statements)) {
  try {
    check();
  } catch (error) {
    console.error(`does not hold: ${what}: ${error.message}`);
    process.exit(1);
  }
  console.log(`holds: ${what}`);
}
console.log("all hold");
