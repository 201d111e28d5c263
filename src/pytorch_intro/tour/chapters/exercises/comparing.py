# %% [markdown]
# ## 1. Mean and standard deviation
#
# Write the function `summary`. It gets a list of accuracies from 0 to 1. It returns a text like `79.5% ± 0.7%`: the mean
# and the standard deviation, both in percent with one digit after the dot. Use `statistics.stdev`: it is right if you have
# only some of the possible results.

# %% template
from statistics import mean, stdev


def summary(accuracies):
    raise NotImplementedError


# %% solution
from statistics import mean, stdev


def summary(accuracies):
    return f"{mean(accuracies):.1%} ± {stdev(accuracies):.1%}"


# %% wrong
from statistics import mean, pstdev, stdev


def summary(accuracies):
    return f"{mean(accuracies):.1%} ± {pstdev(accuracies):.1%}"


# %% check
answer = summary([0.79, 0.80])
assert isinstance(answer, str), f"The function has to return a text, not {answer!r}."
assert answer != "79.5% ± 0.5%", (
    "0.5% is the standard deviation of exactly these two numbers. You have only some of the possible results: use `stdev`."
)
assert answer == "79.5% ± 0.7%", (
    f"For 0.79 and 0.80, the text should be 79.5% ± 0.7%, but you return {answer}. `f'{{0.795:.1%}}'` writes 79.5%."
)
assert summary([0.5, 0.6, 0.7]) == "60.0% ± 10.0%", (
    f"For 0.5, 0.6 and 0.7, it should be 60.0% ± 10.0%, but you return {summary([0.5, 0.6, 0.7])}."
)

# %% [markdown]
# ## 2. Paired differences
#
# Write the function `is_clearly_better`. It gets the accuracies of an old and of a new setting, with the same seeds in the
# same order. It returns True if the mean of the paired differences, new minus old, is more than three standard errors.

# %% template
from statistics import mean, stdev


def is_clearly_better(old, new):
    raise NotImplementedError


# %% solution
from statistics import mean, stdev


def is_clearly_better(old, new):
    differences = [b - a for a, b in zip(old, new, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5
    return mean(differences) > 3 * error


# %% wrong
from statistics import mean, stdev


def is_clearly_better(old, new):
    return mean(new) - mean(old) > 3 * stdev(old)


# %% check
old = [0.70, 0.75, 0.80, 0.72]
new = [0.71, 0.763, 0.812, 0.728]
answer = is_clearly_better(old, new)
assert answer in (True, False), (  # also those of NumPy and PyTorch
    f"The function has to return True or False, not {answer!r}."
)
assert not is_clearly_better(new, old), (
    "You return True although each result is lower with the new setting. Subtract in the other order: new minus old."
)
assert answer, (
    "With each seed, the new setting is better by about 1%. So the answer is True. Compare the seeds in pairs: the large "
    "differences between the seeds do not matter then."
)
assert not is_clearly_better(old, [0.72, 0.74, 0.81, 0.715]), (
    "Here two seeds are better and two are worse, so the answer is False. Is it three standard errors? Divide the standard "
    "deviation by the square root of the number of seeds."
)
old = [0.70, 0.70, 0.70, 0.70]
assert is_clearly_better(old, [0.705, 0.71, 0.72, 0.725]), (
    "The mean difference is 1.5% and the standard error 0.46%: more than three times as much, so the answer is True. Did you "
    "divide the standard deviation by the square root of the number of seeds?"
)
assert not is_clearly_better(old, [0.702, 0.71, 0.72, 0.73]), (
    "The mean difference is 1.55% and the standard error 0.60%: less than three times as much, so the answer is False."
)

# %% [markdown]
# ## 3. Choose, then test
#
# Each of several networks has two accuracies: in the validation and in the test. Write the function `fair_result`. It gets
# both lists. It returns the number that you may write in a report: the test accuracy of the network that you choose.


# %% template
def fair_result(validation, test):
    raise NotImplementedError


# %% solution
def fair_result(validation, test):
    chosen = validation.index(max(validation))
    return test[chosen]


# %% wrong
def fair_result(validation, test):
    return max(test)


# %% check
answer = fair_result([0.80, 0.84, 0.83], [0.82, 0.81, 0.85])
assert answer is not None, "The function returns nothing. Is there a `return`?"
assert answer != 0.85, (
    "0.85 is the best of the test accuracies. Then you have chosen with the test, and the result is too good. Choose with "
    "the validation."
)
assert answer != 0.84, (
    "0.84 is a validation accuracy. You chose with it, so it is too good. Write the test accuracy of the same network."
)
assert answer == 0.81, (
    f"The second network is the best in the validation. Its test accuracy is 0.81, but you return {answer}."
)
