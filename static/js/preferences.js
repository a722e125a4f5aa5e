/** What a person chose, kept in this browser. Where storage is refused, nothing is kept. */

const PREFIX = "captions.";

export function recall(name, otherwise = null) {
  return read(() => localStorage.getItem(PREFIX + name)) ?? otherwise;
}

export function store(name, value) {
  read(() => localStorage.setItem(PREFIX + name, value));
}

/** The API key: for this tab only. */
export function recallKey() {
  return read(() => sessionStorage.getItem(`${PREFIX}key`));
}

export function storeKey(key) {
  if (key) read(() => sessionStorage.setItem(`${PREFIX}key`, key));
  else read(() => sessionStorage.removeItem(`${PREFIX}key`));
}

function read(access) {
  try {
    return access() ?? null;
  } catch {
    return null;
  }
}
