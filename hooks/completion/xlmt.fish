# SPDX-License-Identifier: LGPL-2.1-or-later
# /usr/share/fish/vendor_completions.d/xlmt.fish
function __xlmt_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (/usr/local/lib/xlmt/complete $words[2..-1] 2>/dev/null)
        if test "$line" = //
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c xlmt -f -a '(__xlmt_complete)'
