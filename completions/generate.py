#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Completions and the man page's list of options, from the tables that usbox itself has.

generate.py USBOX bash|zsh|fish       the completion, on stdout
generate.py USBOX man TEMPLATE        TEMPLATE (scdoc) with its lines @OPTIONS@ and @VERBS@ replaced

Run by the build: `usbox help --json` is the only source, so nothing here knows an option by name.
"""
import json
import os
import subprocess
import sys


def table(usbox):
    # A sanitizer's report of what is still allocated at exit is not what is asked for here.
    env = dict(os.environ, ASAN_OPTIONS="detect_leaks=0")
    return json.loads(subprocess.run([usbox, "help", "--json"], check=True, capture_output=True, env=env).stdout)


def spellings(option):
    """Every way to write its name, the short one first."""
    names = ["-" + option["short"]] if "short" in option else []
    names.append("--" + option["name"])
    if "alias" in option:
        names.append("--" + option["alias"])
    return names


def takes(option):
    """How many values it takes as words of their own."""
    return 2 if option["two"] else 1 if "arg" in option else 0


def choices(option):
    return option.get("choices", "").split("|") if option.get("choices") else []


# ---- bash -------------------------------------------------------------------------------------------------------

BASH = r"""# bash completion for usbox; made by the build from usbox's own tables.

# Readline takes words apart at ':' and '='. Sets _usbox_next to the word behind the value that begins at $1.
_usbox_skip_value() {
        local i=$(($1 + 1))
        while ((i < COMP_CWORD)) && [[ ${COMP_WORDS[i]} == [:=]* ]]; do
                i=$((i + 2))
        done
        _usbox_next=$i
}

_usbox_profiles() {
        usbox profile list --quiet 2>/dev/null
}

_usbox_boxes() {
        usbox ps --all --quiet 2>/dev/null
}

# With SIG where that was begun, else without; bash has more names for its traps (EXIT), and for numbers that have none (SIGJUNK).
_usbox_signals() {
        local names
        names=$(compgen -A signal -X '!SIG*' | grep -v JUNK)
        [[ $cur == SIG* ]] || names=${names//SIG/}
        COMPREPLY=($(compgen -W "$names" -- "$cur"))
}

_usbox_pods() {
        usbox pod ps --quiet 2>/dev/null
}

# A verb whose options are $1, that of them which take a value $2, and whose words are boxes if $3 is so. Its command, if it has one
# ($3 is command), begins behind the first box. Paths follow the first where $3 is paths. Where $3 is pod the first word is of $4, others are pods.
# Where $3 is any, words are pods, too; if there is $4 only the first is one, and the second is of $4.
_usbox_verb() {
        local i previous=${COMP_WORDS[COMP_CWORD - 1]}
        if [[ $3 == command ]]; then
                for ((i = 2; i < COMP_CWORD; i++)); do
                        if [[ " $2 " == *" ${COMP_WORDS[i]} "* ]]; then
                                i=$((i + 1))
                        elif [[ ${COMP_WORDS[i]} != -* ]]; then
                                [[ ${COMP_WORDS[i + 1]} == -- ]] && i=$((i + 1))
                                ((i < COMP_CWORD)) && _usbox_command $((i + 1))
                                return
                        fi
                done
        fi
        case $previous in
        -s | --signal)
                _usbox_signals
                return
                ;;
        esac
        if [[ $cur == -* ]]; then
                COMPREPLY=($(compgen -W "$1" -- "$cur"))
        elif [[ $3 == pod && " $2 " != *" $previous "* ]]; then
                if ((COMP_CWORD == 2)); then
                        COMPREPLY=($(compgen -W "$4" -- "$cur"))
                else
                        COMPREPLY=($(compgen -W "$(_usbox_pods)" -- "$cur"))
                fi
        elif [[ $3 == any && " $2 " != *" $previous "* ]]; then
                if [[ $4 && COMP_CWORD -eq 3 ]]; then
                        COMPREPLY=($(compgen -W "$4" -- "$cur"))
                elif [[ ! $4 || COMP_CWORD -eq 2 ]]; then
                        COMPREPLY=($(compgen -W "$(_usbox_boxes) $(_usbox_pods)" -- "$cur"))
                fi
        elif [[ $3 && " $2 " != *" $previous "* ]]; then
                if [[ $3 == paths && " ${COMP_WORDS[*]:2:COMP_CWORD-2}" == *\ [!\ -]* ]]; then
                        compopt -o filenames
                        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                else
                        COMPREPLY=($(compgen -W "$(_usbox_boxes)" -- "$cur"))
                fi
        fi
}

# What may follow the option $1; the beginning of it is in cur.
_usbox_value() {
        case $1 in
@VALUES@        esac
}

# The value of a verb's option by the function $1, where the cursor is in one that has something to offer; else false.
_usbox_verb_value() {
        local at=$((COMP_CWORD - 1))
        if [[ $cur == = ]]; then
                cur=""
        elif [[ ${COMP_WORDS[at]} == = ]]; then
                at=$((at - 1))
        fi
        "$1" "${COMP_WORDS[at]}"
        ((${#COMPREPLY[@]} > 0))
}

@FUNCTIONS@_usbox_run() {
        local i=2 word _usbox_next
        while ((i < COMP_CWORD)); do
                word=${COMP_WORDS[i]}
                case $word in
                --)
                        i=$((i + 1))
                        break
                        ;;
                @TWO@)
                        if ((COMP_CWORD <= i + 2)); then
                                _usbox_value "$word"
                                return
                        fi
                        i=$((i + 3))
                        ;;
                @ONE@)
                        [[ ${COMP_WORDS[i + 1]} == "=" ]] && i=$((i + 1))
                        if ((COMP_CWORD == i)); then
                                cur=""
                        fi
                        if ((COMP_CWORD <= i + 1)); then
                                _usbox_value "$word"
                                return
                        fi
                        _usbox_skip_value $((i + 1))
                        if ((_usbox_next >= COMP_CWORD)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == [:=]* || $cur == [:=]* ]]; then
                                return
                        fi
                        i=$_usbox_next
                        ;;
                -*)
                        if [[ ${COMP_WORDS[i + 1]} == "=" ]]; then
                                if ((COMP_CWORD <= i + 2)); then
                                        ((COMP_CWORD == i + 1)) && cur=""
                                        _usbox_value "$word"
                                        return
                                fi
                                i=$((i + 2))
                        fi
                        i=$((i + 1))
                        ;;
                *)
                        break
                        ;;
                esac
        done
        if ((i < COMP_CWORD)) || [[ ${COMP_WORDS[i - 1]} == -- ]]; then
                _usbox_command "$i"
        elif [[ $cur == -* ]]; then
                COMPREPLY=($(compgen -W "@NAMES@" -- "$cur"))
        else
                _usbox_command "$i"
        fi
}

# The command in the box begins at word $1: complete it as it would be completed alone.
_usbox_command() {
        if declare -F _command_offset >/dev/null; then
                _command_offset "$1"
        elif (($1 == COMP_CWORD)); then
                COMPREPLY=($(compgen -c -- "$cur"))
        else
                compopt -o filenames
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
}

_usbox() {
        local cur=${COMP_WORDS[COMP_CWORD]} IFS=$' \t\n'
        COMPREPLY=()
        if ((COMP_CWORD == 1)); then
                COMPREPLY=($(compgen -W "@VERBS@" -- "$cur"))
                return
        fi
        case ${COMP_WORDS[1]} in
        run)
                _usbox_run
                ;;
        profile)
                if ((COMP_CWORD == 2)); then
                        COMPREPLY=($(compgen -W "list show" -- "$cur"))
                elif [[ ${COMP_WORDS[2]} == show ]]; then
                        COMPREPLY=($(compgen -W "--json default $(_usbox_profiles)" -- "$cur"))
                else
                        COMPREPLY=($(compgen -W "--json --quiet" -- "$cur"))
                fi
                ;;
        help)
                COMPREPLY=($(compgen -W "--json @VERBS@" -- "$cur"))
                ;;
@CASES@        *)
                COMPREPLY=($(compgen -W "--json" -- "$cur"))
                ;;
        esac
}

complete -F _usbox usbox
"""

def own_verbs(data):
    """Those with options of their own, or whose words are boxes."""
    return [verb for verb in data["verbs"] if verb["options"] or verb["box"]]


def verb_words(verb, values=False):
    """Spellings of its options, or of those that take a value."""
    return " ".join(s for o in verb["options"] if not values or "arg" in o for s in spellings(o))


def words_of(verb):
    arguments = verb["arguments"]
    if verb["name"] == "pod":
        return "pod"
    if verb["name"] in ("inspect", "net", "pause", "port", "stats", "unpause", "update"):
        return "any"
    return "command" if "COMMAND" in arguments else "paths" if "PATH" in arguments else "box" if verb["box"] else ""


def first_words(verb):
    """Of a verb that has verbs of its own: those, as its usage line has them, in front or behind BOX."""
    usages = [usage.split() for usage in verb["arguments"].split(" | ")]
    if words_of(verb) == "pod":
        return " ".join(usage[0] for usage in usages)
    return " ".join(usage[1].replace("|", " ") for usage in usages if words_of(verb) == "any" and len(usage) > 2 and usage[1][0] != "[")


# Names of files may have blanks and patterns in them: each line is one, as it is.
BASH_ACTIONS = {
    "file": "compopt -o filenames\n                mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")",
    "dir": "compopt -o filenames\n                mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")",
    "profile": "compopt -o filenames\n                mapfile -t COMPREPLY < <(compgen -W \"$(_usbox_profiles)\" -- \"$cur\"; "
               "[[ $cur == */* ]] && compgen -f -- \"$cur\")",
    "signal": "_usbox_signals",
    "box": "COMPREPLY=($(compgen -W \"$(_usbox_boxes)\" -- \"$cur\"))",
    "pod": "COMPREPLY=($(compgen -W \"$(_usbox_pods)\" -- \"$cur\"))",
}


def bash_values(options):
    """Arms of a case: what each option's value is completed by."""
    values = ""
    for option in options:
        action = BASH_ACTIONS.get(option["complete"])
        if not action and choices(option):
            action = 'COMPREPLY=($(compgen -W "%s" -- "$cur"))' % " ".join(choices(option))
        if action:
            values += "        %s)\n                %s\n                ;;\n" % (" | ".join(spellings(option)), action)
    return values


def bash_verb(verb):
    """The arm of one verb, and a function for the values of its options, if there are any to offer."""
    values = bash_values(verb["options"])
    function = "_usbox_%s_value() {\n        case $1 in\n%s        esac\n}\n\n" % (verb["name"], values) if values else ""
    arm = '        %s)\n                %s_usbox_verb "%s" "%s" "%s" "%s"\n                ;;\n' % (
        verb["name"], "_usbox_verb_value _usbox_%s_value || " % verb["name"] if values else "",
        verb_words(verb), verb_words(verb, True), words_of(verb), first_words(verb))
    return function, arm


def bash(data):
    values = bash_values(data["options"])
    one = [s for o in data["options"] if takes(o) == 1 for s in spellings(o)]
    two = [s for o in data["options"] if takes(o) == 2 for s in spellings(o)]
    names = [s for o in data["options"] for s in spellings(o)]
    verbs = [bash_verb(v) for v in own_verbs(data)]
    return (BASH.replace("@CASES@", "".join(arm for _, arm in verbs)).replace("@FUNCTIONS@", "".join(function for function, _ in verbs)).replace("@VALUES@", values).replace("@ONE@", " | ".join(one)).replace("@TWO@", " | ".join(two))
            .replace("@NAMES@", " ".join(names)).replace("@VERBS@", " ".join(v["name"] for v in data["verbs"])))


# ---- zsh --------------------------------------------------------------------------------------------------------

ZSH = r"""#compdef usbox
# zsh completion for usbox; made by the build from usbox's own tables.

_usbox_profiles() {
        local -a names
        names=(${(f)"$(_call_program profiles usbox profile list --quiet 2>/dev/null)"})
        compadd -a names
        [[ $PREFIX == */* ]] && _files
}

_usbox_boxes() {
        local -a boxes
        boxes=(${(f)"$(_call_program boxes usbox ps --all --quiet 2>/dev/null)"})
        compadd -a boxes
}

_usbox_pods() {
        local -a pods
        pods=(${(f)"$(_call_program pods usbox pod ps --quiet 2>/dev/null)"})
        compadd -a pods
}

# As the bash completion's.
_usbox_verb() {
        local i
        if [[ $3 == command ]]; then
                for ((i = 2; i < CURRENT; i++)); do
                        if [[ " $2 " == *" $words[i] "* ]]; then
                                ((i++))
                        elif [[ $words[i] != -* ]]; then
                                [[ $words[i+1] == -- ]] && ((i++))
                                shift $i words
                                ((CURRENT -= i))
                                _normal
                                return
                        fi
                done
        fi
        case $words[CURRENT-1] in
        -s | --signal)
                _signals -s
                return
                ;;
        esac
        if [[ $PREFIX == -* ]]; then
                compadd -- ${=1}
        elif [[ $3 == pod && " $2 " != *" $words[CURRENT-1] "* ]]; then
                if ((CURRENT == 2)); then
                        compadd -- ${=4}
                else
                        _usbox_pods
                fi
        elif [[ $3 == any && " $2 " != *" $words[CURRENT-1] "* ]]; then
                if [[ -n $4 && CURRENT -eq 3 ]]; then
                        compadd -- ${=4}
                elif [[ -z $4 || CURRENT -eq 2 ]]; then
                        _usbox_boxes
                        _usbox_pods
                fi
        elif [[ -n $3 && " $2 " != *" $words[CURRENT-1] "* ]]; then
                if [[ $3 == paths && " ${words[3,CURRENT-1]}" == *\ [^\ -]* ]]; then
                        _files
                else
                        _usbox_boxes
                fi
        fi
}

_usbox_run() {
        _arguments -s -S -A '-*' \
@SPECS@
                '(-)1:command: _command_names -e' \
                '*::argument: _normal'
}

_usbox() {
        local -a verbs
        verbs=(
@VERBS@
        )
        if ((CURRENT == 2)); then
                _describe verb verbs
                return
        fi
        local verb=$words[2]
        shift words
        ((CURRENT--))
        case $verb in
        run)
                _usbox_run
                ;;
        profile)
                if ((CURRENT == 2)); then
                        compadd list show
                elif [[ $words[2] == show ]]; then
                        compadd -- --json default
                        _usbox_profiles
                else
                        compadd -- --json --quiet
                fi
                ;;
        help)
                compadd -- --json
                _describe verb verbs
                ;;
@CASES@        *)
                compadd -- --json
                ;;
        esac
}

_usbox "$@"
"""

ZSH_ACTIONS = {"file": "_files", "dir": "_files -/", "profile": "_usbox_profiles", "signal": "_signals -s",
               "box": "_usbox_boxes", "pod": "_usbox_pods"}


def zsh_quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def zsh_spec(option):
    description = "[" + option["help"].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:") + "]"
    action = ZSH_ACTIONS.get(option["complete"]) or ("(%s)" % " ".join(choices(option)) if choices(option) else " ")
    argument = option.get("arg", "value").replace(":", "\\:")
    specs = []
    for name in spellings(option):
        once = "*" if option["list"] else "(%s)" % " ".join(spellings(option))
        if option["two"]:
            source, target = argument.split(" ")
            specs.append(once + name + description + ":%s:%s:%s: " % (source, action, target))
        elif "arg" in option:
            specs.append(once + name + ("=" if name.startswith("--") else "+") + description + ":%s:%s" % (argument, action))
        elif choices(option):
            specs.append(once + name + "=-" + description + "::%s:%s" % (argument, action))
        else:
            specs.append(once + name + description)
    return ["                %s \\" % zsh_quote(spec) for spec in specs]


def zsh_verb(verb):
    """The arm of one verb: what the value of an option of it is, behind it or behind its '='; else its words."""
    arms = ""
    for option in verb["options"]:
        action = ZSH_ACTIONS.get(option["complete"]) or ("compadd -- %s" % " ".join(choices(option)) if choices(option) else "")
        if action:
            arms += "                (%s) %s; return ;;\n" % ("|".join(spellings(option)), action)
    value = "                local option=$words[CURRENT-1]\n                [[ $PREFIX == --*=* ]] && option=${PREFIX%%=*} && compset -P '*='\n" \
            "                case $option in\n" + arms + "                esac\n" if arms else ""
    return "        %s)\n%s                _usbox_verb %s %s %s %s\n                ;;\n" % (
        verb["name"], value, zsh_quote(verb_words(verb)), zsh_quote(verb_words(verb, True)), zsh_quote(words_of(verb)), zsh_quote(first_words(verb)))


def zsh(data):
    specs = "\n".join(line for option in data["options"] for line in zsh_spec(option))
    verbs = "\n".join("                %s" % zsh_quote(v["name"] + ":" + v["help"]) for v in data["verbs"])
    return ZSH.replace("@CASES@", "".join(zsh_verb(v) for v in own_verbs(data))).replace("@SPECS@", specs).replace("@VERBS@", verbs)


# ---- fish -------------------------------------------------------------------------------------------------------

FISH = r"""# fish completion for usbox; made by the build from usbox's own tables.

# Prints the words of the command in the box, one a line; fails while its place has not been reached.
function __usbox_command
        set -l words (commandline -opc)
        set -e words[1]
        test "$words[1]" = run; or return 1
        set -e words[1]
        while set -q words[1]
                switch $words[1]
                        case --
                                set -e words[1]
                                break
                        case @TWO@
                                set -e words[1..3]
                        case @ONE@
                                set -e words[1..2]
                        case '-*'
                                set -e words[1]
                        case '*'
                                break
                end
        end
        set -q words[1]; or return 1
        printf '%s\n' $words
end

function __usbox_in_options
        set -l words (commandline -opc)
        test "$words[2]" = run; and not __usbox_command >/dev/null
end

function __usbox_complete_command
        set -l words (__usbox_command)
        complete -C (string join ' ' -- (string escape -- $words) (commandline -ct))
end

function __usbox_verb_is
        set -l words (commandline -opc)
        test "$words[2]" = $argv[1]
end

complete -c usbox -f
@VERBS@
complete -c usbox -n '__fish_seen_subcommand_from profile; and not __fish_seen_subcommand_from list show' -a 'list show'
complete -c usbox -n '__fish_seen_subcommand_from profile; and __fish_seen_subcommand_from show' -a 'default (usbox profile list --quiet)'
complete -c usbox -n '__fish_seen_subcommand_from profile version help' -l json -d 'for programs'
@CASES@
complete -c usbox -n '__usbox_command >/dev/null' -a '(__usbox_complete_command)'
complete -c usbox -n '__usbox_in_options' -a '(__fish_complete_command)'
@OPTIONS@
"""

FISH_ACTIONS = {
    "file": "-r -F",
    "dir": "-x -a '(__fish_complete_directories)'",
    "profile": "-r -F -a '(usbox profile list --quiet)'",
    "signal": "-x -a 'TERM INT HUP QUIT KILL USR1 USR2'",
    "box": "-x -a '(usbox ps --all --quiet)'",
    "pod": "-x -a '(usbox pod ps --quiet)'",
}


def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_option(option):
    line = "complete -c usbox -n __usbox_in_options"
    for name in spellings(option):
        line += " -s " + name[1:] if not name.startswith("--") else " -l " + name[2:]
    action = FISH_ACTIONS.get(option["complete"])
    if not action and choices(option) and "arg" in option:
        action = "-x -a '%s'" % " ".join(choices(option))
    if not action and "arg" in option:
        action = "-x"
    return line + " -d " + fish_quote(option["help"]) + (" " + action if action else "")


def fish_verb(verb):
    """Lines for one verb: its word comes second, whatever stands in the command of a run."""
    test = "complete -c usbox -n '__usbox_verb_is %s'" % verb["name"]
    lines = [test + " -a '(usbox ps --all --quiet)'" + (" -F" if words_of(verb) == "paths" else "")] if verb["box"] else []
    if words_of(verb) == "any":
        words = " " + first_words(verb) if first_words(verb) else ""
        lines = [test + " -a '(usbox ps --all --quiet; usbox pod ps --quiet)%s'" % words]
    if words_of(verb) == "pod":
        lines = [test[:-1] + "; and not __fish_seen_subcommand_from %s' -a '%s'" % (first_words(verb), first_words(verb)),
                 test[:-1] + "; and __fish_seen_subcommand_from %s' -a '(usbox pod ps --quiet)'" % first_words(verb)]
    for option in verb["options"]:
        action = FISH_ACTIONS.get(option["complete"]) or ("-x -a '%s'" % " ".join(choices(option)) if choices(option) else "-x" if "arg" in option else "")
        short = " -s " + option["short"] if "short" in option else ""
        lines.append((test + short + " -l " + option["name"] + " -d " + fish_quote(option["help"]) + " " + action).rstrip())
    return lines


def fish(data):
    one = [fish_quote(s) for o in data["options"] if takes(o) == 1 for s in spellings(o)]
    two = [fish_quote(s) for o in data["options"] if takes(o) == 2 for s in spellings(o)]
    verbs = ["complete -c usbox -n __fish_use_subcommand -a %s -d %s" % (v["name"], fish_quote(v["help"])) for v in data["verbs"]]
    return (FISH.replace("@ONE@", " ".join(one)).replace("@TWO@", " ".join(two)).replace("@VERBS@", "\n".join(verbs))
            .replace("@CASES@", "\n".join(line for v in own_verbs(data) for line in fish_verb(v)))
            .replace("@OPTIONS@", "\n".join(fish_option(o) for o in data["options"])))


# ---- man --------------------------------------------------------------------------------------------------------


def scdoc_escape(text):
    for char in "\\_*":
        text = text.replace(char, "\\" + char)
    return text


def man_options(data):
    lines, group = [], None
    for option in data["options"]:
        if option["group"] != group:
            group = option["group"]
            lines += ["## " + group, ""]
        argument = " _%s_" % scdoc_escape(option["arg"]) if "arg" in option else "[=%s]" % option["choices"] if choices(option) else ""
        text = scdoc_escape(option["help"])
        lines.append(", ".join("*%s*" % scdoc_escape(s) for s in spellings(option)) + argument)
        lines += ["\t" + text[0].upper() + text[1:] + "." + (" May be given more than once." if option["list"] else "")
                  + (" Not in profiles." if not option["profile"] else ""), ""]
    return "\n".join(lines)


def man_verbs(data):
    lines = []
    for verb in own_verbs(data):
        lines.append("*usbox %s* %s" % (verb["name"], scdoc_escape(verb["arguments"])))
        lines += ["\t" + scdoc_escape(verb["help"][0].upper() + verb["help"][1:]) + ".", ""]
        for option in verb["options"]:
            argument = " _%s_" % scdoc_escape(option["arg"]) if "arg" in option else ""
            lines += ["\t%s%s: %s." % (", ".join("*%s*" % scdoc_escape(s) for s in spellings(option)), argument, scdoc_escape(option["help"])), ""]
    return "\n".join(lines)


def man(data, template):
    with open(template, encoding="utf-8") as file:
        text = file.read()
    assert "\n@OPTIONS@\n" in text and "\n@VERBS@\n" in text, template
    return text.replace("@OPTIONS@\n", man_options(data)).replace("@VERBS@\n", man_verbs(data))


def main():
    data = table(sys.argv[1])
    kind = sys.argv[2]
    if kind == "man":
        sys.stdout.write(man(data, sys.argv[3]))
    else:
        sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[kind](data))


if __name__ == "__main__":
    main()
