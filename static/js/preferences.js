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

/** What leads back into a room after a reload: for this tab only. */
export function recallVisit(room) {
  const kept = read(() => sessionStorage.getItem(`${PREFIX}visit`));
  const visit = read(() => JSON.parse(kept ?? "null"));
  return visit?.room === room ? visit : null;
}

/** @param {{room: string, invitation?: string | null, token?: string | null, place?: object | null} | null} visit */
export function storeVisit(visit) {
  if (visit) read(() => sessionStorage.setItem(`${PREFIX}visit`, JSON.stringify(visit)));
  else read(() => sessionStorage.removeItem(`${PREFIX}visit`));
}
