// Lists the routes of /openapi.json and sends requests. All text reaches the page as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
const SHOWN_AT_MOST = 200000;

function token() {
  const value = document.getElementById("token").value;
  return value ? { "X-Echelon-Token": value } : {};
}

function element(name, text) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return made;
}

function field(parameter) {
  const label = element("label", parameter.name + (parameter.required ? " * " : " "));
  label.append(element("small", [parameter.in, parameter.description].filter(Boolean).join(": ")));
  const allowed = parameter.schema && parameter.schema.enum;
  const input = element(allowed ? "select" : "input");
  for (const value of allowed ? ["", ...allowed] : []) input.append(element("option", value === null ? "" : value));
  input.dataset.name = parameter.name;
  input.dataset.in = parameter.in;
  label.append(input);
  return label;
}

function example(spec, schema) {
  if (!schema) return null;
  if (schema.$ref) return example(spec, spec.components.schemas[schema.$ref.split("/").pop()]);
  if (schema.type !== "object" || !schema.properties) return schema.type === "object" ? {} : "";
  return Object.fromEntries(Object.entries(schema.properties).map(([name, inner]) => [name, example(spec, inner)]));
}

function address(path, inputs) {
  const query = new URLSearchParams();
  for (const input of inputs) {
    if (input.dataset.in === "path") {
      const encoded = encodeURIComponent(input.value).replaceAll("%2F", "/");
      path = path.replace(`{${input.dataset.name}}`, encoded);
    } else if (input.dataset.in === "query" && input.value) {
      query.append(input.dataset.name, input.value);
    }
  }
  return query.size ? `${path}?${query}` : path;
}

function headers(form, inputs, sendsBody) {
  const found = { ...token() };
  if (sendsBody) found["Content-Type"] = "application/json";
  for (const input of inputs) if (input.dataset.in === "header" && input.value) found[input.dataset.name] = input.value;
  for (const line of form.querySelector(".headers textarea").value.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) found[line.slice(0, colon).trim()] = line.slice(colon + 1).trim();
  }
  return found;
}

async function send(form, method, path, shown) {
  const inputs = [...form.querySelectorAll("[data-name]")];
  const body = form.querySelector(".body textarea").value.trim();
  const sendsBody = method !== "get" && body !== "";
  shown.hidden = false;
  shown.textContent = "…";
  try {
    const target = address(path, inputs);
    const options = { method: method.toUpperCase(), headers: headers(form, inputs, sendsBody) };
    if (sendsBody) options.body = body;
    const response = await fetch(target, options);
    shown.textContent = `${options.method} ${target}\n${response.status} ${response.statusText}\n`;
    for (const [name, value] of response.headers) shown.textContent += `${name}: ${value}\n`;
    shown.textContent += "\n";
    await show(response, shown);
  } catch (error) {
    shown.textContent += `\n${error}`;
  }
}

async function show(response, shown) {
  const type = response.headers.get("Content-Type") || "";
  if (type.includes("json")) {
    shown.append(JSON.stringify(await response.json(), null, 2).slice(0, SHOWN_AT_MOST));
    return;
  }
  if (!type.startsWith("text/") || !response.body) {
    shown.append(`(${type}, ${(await response.blob()).size} bytes)`);
    return;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let length = 0; length < SHOWN_AT_MOST; ) {
    const { value, done } = await reader.read();
    if (done) return;
    shown.append(value);
    length += value.length;
  }
  await reader.cancel();
  shown.append("\n(cut here)");
}

function route(spec, path, method, operation) {
  const made = document.getElementById("route").content.cloneNode(true);
  const form = made.querySelector("form");
  const shown = made.querySelector(".answer");
  made.querySelector(".method").textContent = method.toUpperCase();
  made.querySelector(".path").textContent = path;
  made.querySelector(".summary").textContent = operation.summary || "";
  const parameters = [...(spec.paths[path].parameters || []), ...(operation.parameters || [])];
  made.querySelector(".fields").append(...parameters.map(field));
  const body = operation.requestBody && operation.requestBody.content["application/json"];
  made.querySelector(".body").hidden = !body;
  if (body) made.querySelector(".body textarea").value = JSON.stringify(example(spec, body.schema), null, 2);
  for (const [status, answer] of Object.entries(operation.responses)) {
    made.querySelector(".answers").append(element("li", `${status} ${answer.description || ""}`));
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, method, path, shown);
  });
  return made;
}

async function load() {
  const target = document.getElementById("routes");
  const response = await fetch("/openapi.json", { headers: token() });
  if (!response.ok) {
    target.replaceChildren(element("p", `${response.status}: give the token above and press Enter.`));
    return;
  }
  const spec = await response.json();
  target.replaceChildren();
  for (const tag of spec.tags) {
    const section = element("section");
    section.append(element("h2", `${tag.name}: ${tag.description}`));
    for (const [path, operations] of Object.entries(spec.paths)) {
      for (const method of METHODS) {
        const operation = operations[method];
        if (operation && operation.tags.includes(tag.name)) section.append(route(spec, path, method, operation));
      }
    }
    target.append(section);
  }
}

document.getElementById("token").addEventListener("change", load);
load();
