# %% [markdown]
# # Decoding over time
#
# When does a recording tell what was seen, and does one time speak the code of another? The same calls ask it of a simulated MEG
# recording, in which we know the answer, and of a small recurrent network.

# %%
import numpy as np

import brainalign as ba

rng = np.random.default_rng(0)
N, SENSORS, times = 120, 24, np.arange(-0.1, 0.5, 0.02)
kind = np.repeat(["face", "house"], N // 2)
sign = np.where(kind == "house", 1.0, -1.0)
ids = [f"picture-{i:03d}" for i in range(N)]


def trials(values, modality, system):
    """Label trials (picture, neuroid, time) as recordings of either kind are labelled."""
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(values.shape[1]), time=times, modality=modality, system=system,
                        condition=kind)  # fmt: skip


# %% [markdown]
# ## Two codes
#
# From 80 to 160 ms the field that tells a face from a house is another one at every sample; from 240 to 400 ms it stays the same.

# %%
early, late = (times > 0.07) & (times < 0.17), (times > 0.23) & (times < 0.41)
code = rng.normal(size=(SENSORS, len(times))) * early + rng.normal(size=(SENSORS, 1)) * late
meg = trials(rng.normal(size=(N, SENSORS, len(times))) + 0.35 * sign[:, None, None] * code, "meg", "simulated")

# %% [markdown]
# ## When?
#
# Every fold leaves pictures out. Chance is what comes out when pictures change their labels, with everything learned again: with
# `Classifier("ridge")` a thousand such labelings cost little more than one, for they share their factorisations. `p_value_max` holds for
# all times together.

# %%
RIDGE = ba.Classifier("ridge", C=0.01)
out = ba.decode_time(meg, "condition", model=RIDGE, n_permutations=1000, clusters="mass", patterns=True, random_state=0)
for t in range(0, len(times), 3):
    now = out.isel(time=t)
    print(f"{1e3 * times[t]:5.0f} ms  area under curve {float(now.score):.2f}  p = {float(now.p_value_max):.3f}")

# %% [markdown]
# A cluster's p-value says that somewhere there is something to decode, and nothing of when: a cluster may reach beyond the effect. Of a single
# time, `p_value_max` speaks.

# %%
known = out.p_value_max.values < 0.05
print("single times: ", 1e3 * times[known].round(3))
print("in clusters:  ", 1e3 * times[out.p_value_cluster.values < 0.05].round(3))

# %% [markdown]
# ## Where?
#
# Weights cancel noise and say little of where a signal is. Patterns (Haufe et al., 2014) do: they follow the field that was planted.

# %%
i = int(np.argmax(late))
likeness = np.corrcoef(out.pattern.values[0, :, i], code[:, i])[0, 1]
print(f"pattern and planted field at {1e3 * times[i]:.0f} ms: r = {likeness:.2f}")

# %% [markdown]
# ## Is it one code?
#
# What is learned at one time is tested at all of them. The late code holds: a square. The early one turns: a diagonal.

# %%
across = ba.decode_time(meg, "condition", model=RIDGE, generalize=True, random_state=0).score.values


def off_diagonal(window):
    """Return the mean area under the curve between different times of a window."""
    return float(across[np.ix_(window, window)][~np.eye(window.sum(), dtype=bool)].mean())


print(f"between times of the early window {off_diagonal(early):.2f}, of the late one {off_diagonal(late):.2f}")

# %% [markdown]
# ## A network, by the same call
#
# A recurrent network hears the label at 100 ms, in noise, and keeps it for a while in its states. Steps are times.

# %%
units = 40
recurrent = 0.95 * np.linalg.qr(rng.normal(size=(units, units)))[0]
inward, state, states = rng.normal(size=units), np.zeros((N, units)), []
for t in times:
    told = sign[:, None] * inward if abs(t - 0.1) < 0.005 else 0.0
    state = np.tanh(state @ recurrent + 0.6 * told + 0.3 * rng.normal(size=(N, units)))
    states.append(state)
rnn = trials(np.stack(states, axis=2), "ann", "rnn")
same = ba.decode_time(rnn, "condition", model=RIDGE, n_permutations=1000, random_state=0)
told_at = float(same.time[same.p_value_max.values < 0.05].min())
print(f"the network knows from {1e3 * told_at:.0f} ms")

# %% [markdown]
# The conclusion, as a test: what was planted is found, nothing is found before it, and the two codes are told apart.

# %%
assert known[early | late].mean() > 0.9
assert not known[times < 0.07].any()
assert likeness > 0.8
assert off_diagonal(late) > 0.8 > 0.65 > off_diagonal(early)
assert abs(told_at - 0.1) < 0.001
