// Shows the server's OpenAPI document, and asks its routes. The API key stays in this page's memory.

const ROOT = new URL("../", import.meta.url);
const at = (id) => document.getElementById(id);

let schemas = {};

/** Make an element; children are elements or texts, in which `names` are set as code. */
function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  for (const child of children.flat()) {
    if (typeof child !== "string") element.append(child);
    else child.split("`").forEach((part, n) => element.append(n % 2 ? make("code", { textContent: part }) : part));
  }
  return element;
}

const literal = (text) => make("code", { textContent: text });

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (at("key").value) headers.authorization = `Bearer ${at("key").value}`;
  return fetch(new URL(path, ROOT), { ...options, headers, cache: "no-store" });
}

// Schemas

function follow(schema) {
  let found = schema ?? {};
  while (found.$ref) found = schemas[found.$ref.split("/").pop()] ?? {};
  return found;
}

const isNull = (schema) => schema.type === "null";

/** What a schema may be: the parts of its anyOf, without null. */
function choices(schema) {
  const found = follow(schema);
  return (found.anyOf ?? [found]).filter((each) => !isNull(each)).map(follow);
}

function typeName(schema) {
  const names = choices(schema).map((each) => {
    if (each.enum) return each.enum.map((value) => JSON.stringify(value)).join(" | ");
    if (each.type === "array") {
      const items = typeName(each.items ?? {});
      return `list of ${items.includes(" or ") ? `(${items})` : items}`;
    }
    if (Array.isArray(each.type)) return each.type.join(" or ");
    return each.type ?? "anything";
  });
  return [...new Set(names)].join(" or ");
}

/** The object whose fields stand in a schema, and how its values are written behind the field's name. */
function inner(schema, mark = "") {
  for (const each of choices(schema)) {
    if (each.properties) return [each, mark];
    if (each.type === "array" && each.items) {
      const found = inner(each.items, `${mark}[]`);
      if (found) return found;
    }
  }
  return null;
}

/** A row for each field, those of inner objects too; `above` are the objects that it is in. */
function rows(schema, before = "", above = [schema]) {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const needed = schema.required?.includes(name);
    const standard = field.default ?? null;
    const about = field.description ?? "";
    const row = make("tr", {},
      make("td", {}, literal(before + name)),
      make("td", {}, typeName(field)),
      make("td", { className: "quiet" }, standard !== null ? literal(JSON.stringify(standard)) : needed ? "required" : "–"),
      make("td", {}, about));
    const below = inner(field);
    if (!below || above.includes(below[0])) return [row];
    return [row, ...rows(below[0], `${before}${name}${below[1]}.`, [...above, below[0]])];
  });
}

function fields(schema) {
  const found = inner(schema);
  const shown = found ? rows(found[0]) : [];
  if (!shown.length) return [make("p", { className: "quiet" }, typeName(schema))];
  const names = ["Field", "Type", "Default", "Meaning"].map((name) => make("th", { scope: "col" }, name));
  const table = make("table", {}, make("thead", {}, make("tr", {}, names)), make("tbody", {}, shown));
  const about = [found[1] ? `${typeName(schema)}, each:` : "", found[0].description ?? ""].filter(Boolean).join(" ");
  return [make("p", { className: "quiet" }, about), make("div", { className: "scroll" }, table)];
}

function example(schema) {
  if (schema.examples) return schema.examples[0];
  if (schema.default != null) return schema.default;
  const found = choices(schema)[0] ?? {};
  if (found.examples) return found.examples[0];
  if (found.enum) return found.enum[0];
  if (found.properties) {
    const names = found.required?.length ? found.required : Object.keys(found.properties).slice(0, 1);
    return Object.fromEntries(names.map((name) => [name, example(found.properties[name])]));
  }
  if (found.type === "array") return [example(found.items ?? {})];
  return { string: "A text.", integer: 1, number: 1, boolean: true, object: {} }[found.type] ?? "A text.";
}

// Answers

const ITEMS = 40, NUMBERS = 8, CHARACTERS = 2000;

/** JSON to read: numbers in a line, long lists and texts cut. */
function shown(value, indent = "") {
  const deeper = `${indent}  `;
  if (typeof value === "string" && value.length > CHARACTERS) {
    return `${JSON.stringify(value.slice(0, CHARACTERS))} … ${value.length - CHARACTERS} more characters`;
  }
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const flat = list && value.every((each) => typeof each === "number");
  const most = flat ? NUMBERS : ITEMS;
  const each = list ? value : Object.entries(value);
  const parts = each.slice(0, most).map((item) =>
    list ? shown(item, deeper) : `${JSON.stringify(item[0])}: ${shown(item[1], deeper)}`);
  if (each.length > most) parts.push(`… ${each.length - most} more`);
  const [open, close] = list ? "[]" : "{}";
  if (!parts.length) return open + close;
  return flat ? `${open}${parts.join(", ")}${close}` : `${open}\n${deeper}${parts.join(`,\n${deeper}`)}\n${indent}${close}`;
}

const TIMES = { total: "in all", tokenization: "to tokenize", queue: "waiting", inference: "computing" };

function timing(headers) {
  const times = Object.entries(TIMES).map(([name, words]) => [headers.get(`x-${name}-time`), words]);
  const parts = times.filter(([time]) => time !== null).map(([time, words]) => `${time} ms ${words}`);
  const tokens = headers.get("x-compute-tokens") ?? headers.get("x-usage-tokens");
  if (tokens !== null) parts.push(`${tokens} tokens`);
  return [...parts, `request ${headers.get("x-request-id")}`].join(" · ");
}

async function answerOf(reply, name) {
  const kind = (reply.headers.get("content-type") ?? "").split(";")[0];
  if (kind.endsWith("json")) return make("pre", { className: "answer", tabIndex: 0, textContent: shown(await reply.json()) });
  if (kind.startsWith("text/")) {
    const text = await reply.text();
    const cut = text.length > 20 * CHARACTERS ? `${text.slice(0, 20 * CHARACTERS)}\n…` : text;
    return make("pre", { className: "answer", tabIndex: 0, textContent: cut || "(an empty body)" });
  }
  const file = await reply.blob();
  const link = make("a", { href: URL.createObjectURL(file), download: `${name}.${kind.split("-").pop()}` }, "save it");
  return make("p", {}, `${file.size} bytes of ${kind}: `, link);
}

// Routes

/** The path to ask: with the parameters in it, and behind the chosen model's name. */
function filled(path, inputs) {
  const model = at("model").value;
  const code = (text) => text.split("/").map(encodeURIComponent).join("/");
  const place = path.replace(/{(\w+)}/g, (_, name) => code(inputs[name].value));
  return (model && place === path ? `/models/${code(model)}${path === "/" ? "" : path}` : place).slice(1);
}

function tryOut(method, path, operation, area) {
  const types = Object.keys(operation.responses["200"]?.content ?? {});
  const inputs = {};
  const parts = [make("h3", {}, "Try it")];
  for (const { name } of (operation.parameters ?? []).filter((each) => each.in === "path")) {
    inputs[name] = make("input", { spellcheck: false, value: at("model").options[1]?.value ?? "" });
    parts.push(make("label", {}, `${name} `, inputs[name]));
  }
  if (operation.requestBody) parts.push(area);
  const accept = make("select", {}, types.map((type) => make("option", {}, type)));
  const status = make("span", { role: "status" });
  const answer = make("div");
  const send = async () => {
    button.disabled = true;
    status.className = "quiet";
    status.textContent = "…";
    try {
      const headers = { accept: accept.value || "*/*" };
      const body = operation.requestBody ? area.value : undefined;
      if (operation.requestBody) headers["content-type"] = "application/json";
      const name = path.split("/").pop() || "answer";
      const reply = await ask(filled(path, inputs), { method, headers, body });
      const shownAnswer = await answerOf(reply, name);
      status.className = reply.ok ? "" : "wrong";
      status.textContent = `${reply.status} · ${timing(reply.headers)}`;
      answer.replaceChildren(shownAnswer);
    } catch (error) {
      status.className = "wrong";
      status.textContent = `No answer: ${error.message}`;
      answer.replaceChildren();
    }
    button.disabled = false;
  };
  const button = make("button", { type: "button", onclick: send, title: "Ctrl+Enter in the body sends too" }, "Send");
  area.onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !button.disabled) send();
  };
  const choice = types.length > 1 ? [make("label", {}, "Answer as ", accept)] : [];
  return [...parts, make("div", { className: "send" }, button, choice, status), answer];
}

/** The fields of a body, in the form that is chosen where it may have several; `area` gets an example. */
function bodyForms(schema, area) {
  const forms = schema.anyOf ?? [schema];
  const table = make("div");
  const choose = (form) => {
    table.replaceChildren(...fields(form));
    area.value = JSON.stringify(example(form), null, 2);
    area.rows = Math.min(area.value.split("\n").length + 1, 16);
  };
  choose(forms[0]);
  const heading = make("h3", {}, "Body");
  if (forms.length === 1) return [heading, table];
  const names = forms.map((form, n) => make("option", { value: n }, follow(form).title ?? `form ${n + 1}`));
  const select = make("select", { onchange: () => choose(forms[select.value]) }, names);
  return [heading, make("p", {}, make("label", {}, "Form ", select)), table];
}

function described(method, path, operation) {
  const area = make("textarea", { spellcheck: false, ariaLabel: "Request body" });
  const parts = operation.requestBody ? bodyForms(operation.requestBody.content["application/json"].schema, area) : [];
  const headers = (operation.parameters ?? []).filter((each) => each.in === "header");
  parts.push(...tryOut(method, path, operation, area), make("h3", {}, "Responses"));
  for (const [type, { schema }] of Object.entries(operation.responses["200"]?.content ?? {})) {
    const kinds = schema?.anyOf ?? [schema];
    const own = type.endsWith("json") ? kinds.flatMap(fields) : [];
    parts.push(make("details", {}, make("summary", {}, `200 \`${type}\``), own));
  }
  const others = Object.entries(operation.responses).filter(([status]) => status !== "200");
  const lines = others.map(([status, { description }]) =>
    make("tr", {}, make("td", {}, literal(status)), make("td", {}, description)));
  parts.push(make("details", {}, make("summary", {}, "Errors"), make("table", {}, make("tbody", {}, lines))));
  if (headers.length) {
    const lines = headers.map(({ name, description }) =>
      make("tr", {}, make("td", {}, literal(name)), make("td", {}, description ?? "")));
    parts.push(make("details", {}, make("summary", {}, "Headers"), make("table", {}, make("tbody", {}, lines))));
  }
  return make("div", { className: "body" }, parts);
}

function route(method, path, operation) {
  const summary = make("summary", {}, make("b", {}, method), literal(path), make("span", {}, operation.summary ?? ""));
  const element = make("details", { className: "route", id: operation.operationId }, summary);
  element.addEventListener("toggle", () => {
    if (!element.open) return;
    if (element.children.length === 1) element.append(described(method, path, operation));
    history.replaceState(null, "", `#${element.id}`);
  });
  return element;
}

function show(spec) {
  schemas = spec.components.schemas;
  at("title").replaceChildren(spec.info.title, " ", make("small", {}, spec.info.version));
  at("about").replaceChildren(...make("p", {}, spec.info.description ?? "").childNodes);
  const every = Object.entries(spec.paths).flatMap(([path, ways]) =>
    Object.entries(ways).map(([method, operation]) => [method.toUpperCase(), path, operation]));
  const groups = spec.tags.map(({ name }) =>
    make("section", { id: `tag ${name}`.replaceAll(" ", "-") }, make("h2", {}, name),
      every.filter(([, , operation]) => operation.tags.includes(name)).map((each) => route(...each))));
  const links = groups.map((group) => make("a", { href: `#${group.id}` }, group.firstChild.textContent));
  at("tags").replaceChildren(...links);
  at("routes").replaceChildren(...groups);
  openNamed();
}

/** Open the route that the address names. */
function openNamed() {
  const named = location.hash ? at(decodeURIComponent(location.hash.slice(1))) : null;
  if (named?.tagName === "DETAILS") named.open = true;
  named?.scrollIntoView();
}

// The start

function note(text) {
  at("tags").replaceChildren();
  at("routes").replaceChildren(make("p", { id: "note", role: "status", className: "wrong" }, text));
}

async function loadModels() {
  const reply = await ask("v1/models");
  const names = reply.ok ? (await reply.json()).data.map((model) => model.id) : [];
  const options = ["", ...names].map((name) => make("option", { value: name, textContent: name || "as the body says" }));
  const chosen = at("model").value;
  at("model").replaceChildren(...options);
  at("model").value = names.includes(chosen) ? chosen : "";
  at("models").hidden = names.length < 2;
}

let loaded = false;

async function load() {
  try {
    await loadModels();
    if (loaded) return;
    const reply = await ask("openapi.json");
    if (reply.status === 401) {
      note("This server asks for an API key: give it above, then press Enter.");
      at("key").focus();
    } else if (!reply.ok) {
      note(`The document can't be read: ${reply.status}.`);
    } else {
      show(await reply.json());
      loaded = true;
    }
  } catch (error) {
    note(`The server does not answer: ${error.message}`);
  }
}

at("key").addEventListener("change", load);
addEventListener("hashchange", openNamed);
load();
