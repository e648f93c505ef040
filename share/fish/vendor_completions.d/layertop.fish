# fish completion for layertop. The program itself says what fits: options, models, and what stands
# behind -c, from the tables that it runs by. To try it: source share/fish/vendor_completions.d/layertop.fish

function __layertop_complete
    set -l program (commandline -opc)[1]
    set program (string replace -r '^~' $HOME -- $program)
    for row in (command $program --complete (commandline -cp | string collect) 2>/dev/null)
        set -l parts (string split -m 1 \t -- $row)
        if test -n "$parts[1]"
            echo $row
            continue
        end
        # "files" and endings: those of the shell; folders lead to more
        set -l endings (string split -n ' ' -- (string replace files '' -- $parts[2]))
        for path in (__fish_complete_path (commandline -ct) | string replace -r '\t.*' '')
            if test -z "$endings"; or string match -q '*/' -- $path
                echo $path
                continue
            end
            for ending in $endings
                string match -q "*.$ending" -- $path; and echo $path
            end
        end
    end
end

complete -c layertop -f -a '(__layertop_complete)'
